//! Every defect that the simulator makes, through the pipeline: each ends as it must, and what has
//! none is a tick.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use nats::{
    Broker, JetStream, Message, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::{
    Tick,
    calendar::{Calendar, Phase},
    headers, subject,
};

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::{NatsServer, install_crypto},
};

const PATIENCE: Duration = Duration::from_secs(180);
const ENOUGH: u64 = 4_000;

/// All of them, but for those that the tests set otherwise.
const ALL: &str = "all=60";

/// What became of a payload: the flags of its tick, or the reason why it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Tick(Vec<String>),
    Rejected(String),
}

fn flagged(flags: &[&str]) -> End {
    End::Tick(flags.iter().map(|&flag| flag.to_owned()).collect())
}

fn rejected(reason: &str) -> End {
    End::Rejected(reason.to_owned())
}

/// A payload of `TICKS_RAW` and what became of it.
struct Payload {
    raw: Message,
    defect: String,
    end: End,
}

/// What a run left behind.
struct Left {
    payloads: Vec<Payload>,
    /// How many the stream has dropped as those that it had.
    dropped: u64,
}

/// Runs the simulator with these settings until there is enough, and processes all of it.
async fn run(settings: &[(&str, &str)]) -> Left {
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    installation.set("ingest.sim.ticks_per_sec", 500);
    for (key, value) in settings {
        installation.set(key, value);
    }
    let registry = Registry::at(&nats.url()).await;
    let bucket = registry.nats.bucket(subject::CONFIG, "what may change while running", None).await;
    let bucket = bucket.expect("a bucket");
    let halted = br#"["SIM-HALTED"]"#.as_slice();
    // Both lists are there before the first tick comes.
    bucket.put(subject::HALTED_KEY, halted.into()).await.expect("NATS takes it");
    bucket.put(subject::SYMBOLS_KEY, halted.into()).await.expect("NATS takes it");
    let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
    broker.declare().await.expect("NATS has JetStream");
    let ingest = installation.role("ingest");
    eventually(PATIENCE, "all symbols are announced", async || {
        let (known, _) = bucket.get(subject::SYMBOLS_KEY).await.ok()??;
        std::str::from_utf8(&known).ok()?.contains("BRK.B").then_some(())
    })
    .await;
    let process = installation.role("process");
    let count = async |stream| broker.state(stream).await.expect("it answers").messages;
    eventually(PATIENCE, "there is enough", async || {
        (count(Stream::Raw).await >= ENOUGH).then_some(())
    })
    .await;
    let dropped = dropped(&registry).await;
    drop(ingest);
    let raw = read(&broker, Stream::Raw).await;
    let ends = eventually(PATIENCE, "each payload is a tick or a rejection", async || {
        let ends = ends(&broker).await;
        (ends.len() == raw.len()).then_some(ends)
    })
    .await;
    drop(process);
    let payloads = raw.into_iter().map(|raw| Payload {
        defect: defect(&raw),
        end: ends[&raw.sequence].clone(),
        raw,
    });
    Left { payloads: payloads.collect(), dropped }
}

/// The name in the field that only this test looks at; nothing of a payload without a defect. It may
/// be no JSON.
fn defect(raw: &Message) -> String {
    let text = String::from_utf8_lossy(&raw.body);
    let named = text.split_once(r#""defect":""#).and_then(|(_, rest)| rest.split_once('"'));
    named.map_or("", |(name, _)| name).to_owned()
}

/// What became of each payload, by its sequence.
async fn ends(broker: &JetStream) -> HashMap<u64, End> {
    let mut ends = HashMap::new();
    for message in read(broker, Stream::Ticks).await {
        let tick: Tick = serde_json::from_slice(&message.body).expect("a tick");
        let flags = tick.flags.iter().map(|flag| flag.as_str().to_owned()).collect();
        assert_eq!(ends.insert(tick.raw_seq, End::Tick(flags)), None, "{message:?}");
    }
    for message in read(broker, Stream::Rejected).await {
        let header = |name| message.header(name).expect("a header of a rejection").to_owned();
        let sequence = header(headers::RAW_SEQUENCE).parse().expect("a number");
        let end = End::Rejected(header(headers::REASON));
        assert_eq!(ends.insert(sequence, end), None, "{message:?}");
    }
    ends
}

/// What a stream has, up to where it is now, without its fences.
async fn read(broker: &JetStream, stream: Stream) -> Vec<Message> {
    let newest = broker.last(stream, stream.subjects()).await.expect("it answers");
    let Some(newest) = newest else { return Vec::new() };
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await.expect("a reader");
    let mut messages = Vec::new();
    while messages.last().is_none_or(|last: &Message| last.sequence < newest.sequence) {
        messages.push(reader.next().await.expect("a message"));
    }
    messages
}

/// How many payloads the stream has dropped as those that it had, says the metric of `ingest`.
async fn dropped(registry: &Registry) -> u64 {
    install_crypto();
    let url = format!("http://{}/metrics", registry.address("ingest").await);
    let text = reqwest::get(url).await.expect("an answer").text().await.expect("a text");
    let line = text.lines().find(|line| line.starts_with("lizards_ingest_duplicates_total{"));
    let value = line.and_then(|line| line.rsplit_once(' ')).expect("the metric is there").1;
    value.parse().expect("a number")
}

/// Checks that each payload has ended as `expected` says of its defect, and that all of those defects
/// are there; a payload without one has the name "".
fn check(left: &Left, names: &[&str], expected: impl Fn(&Payload, usize) -> End) {
    let mut found = BTreeMap::<&str, usize>::new();
    let mut shifts = BTreeMap::<&str, usize>::new();
    for payload in &left.payloads {
        // How many ticks of its symbol were told to be on a new level before it.
        let shifted = shifts.entry(payload.raw.subject.as_str()).or_default();
        assert_eq!(
            payload.end,
            expected(payload, *shifted),
            "{:?}: {}",
            payload.raw.sequence,
            String::from_utf8_lossy(&payload.raw.body)
        );
        *shifted += usize::from(payload.defect == "level-shift");
        *found.entry(payload.defect.as_str()).or_default() += 1;
    }
    let missing: Vec<_> = names.iter().filter(|name| !found.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} are not among {found:?}");
    assert_eq!(found.len(), names.len(), "{found:?}");
}

const NAMES: [&str; 28] = [
    "",
    "price-times-10",
    "price-times-100",
    "price-tenth",
    "price-hundredth",
    "wrong-symbol",
    "level-shift",
    "price-zero",
    "price-negative",
    "price-text",
    "size-negative",
    "future",
    "old",
    "out-of-order",
    "pre-market",
    "post-market",
    "closed",
    "duplicate",
    "repeat",
    "unknown-symbol",
    "halted-symbol",
    "missing-symbol",
    "missing-price",
    "missing-time",
    "cut-off",
    "html",
    "provider-error",
    "no-columns",
];

/// Why a payload with this defect is rejected whatever the rules say.
fn always_rejected(defect: &str) -> Option<End> {
    Some(rejected(match defect {
        "price-zero" | "price-negative" | "price-text" | "size-negative" => "invalid_field",
        "missing-symbol" | "missing-price" | "missing-time" => "missing_field",
        "cut-off" | "html" => "malformed",
        "provider-error" => "provider_error",
        "no-columns" => "envelope",
        "repeat" => "duplicate",
        _ => return None,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_that_flags_is_a_tick_with_that_flag() {
    let left = run(&[
        ("ingest.sim.defects", ALL),
        ("process.rules.max_age", "sim=72000"),
        ("process.rules.unknown_symbol", "flag"),
    ])
    .await;
    check(&left, &NAMES, |payload, shifted| {
        let defect = payload.defect.as_str();
        if let Some(end) = always_rejected(defect) {
            return end;
        }
        match defect {
            "future" => rejected("future"),
            "unknown-symbol" => flagged(&["unknown_symbol"]),
            "halted-symbol" => flagged(&["halted"]),
            "out-of-order" => flagged(&["out_of_order"]),
            "old" | "pre-market" | "post-market" | "closed" => flagged(&["stale", "out_of_order"]),
            "level-shift" if shifted % 5 == 4 => flagged(&["level_shift"]),
            "level-shift" | "wrong-symbol" | "price-tenth" | "price-hundredth" => {
                flagged(&["outlier"])
            }
            "price-times-10" | "price-times-100" => flagged(&["outlier"]),
            // The stream has dropped the second.
            "duplicate" | "" => flagged(&[]),
            other => panic!("the defect {other}"),
        }
    });
    let doubles = left.payloads.iter().filter(|payload| payload.defect == "duplicate").count();
    assert!((1..=doubles as u64).contains(&left.dropped), "{} of {doubles}", left.dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_that_rejects_is_rejected_for_that() {
    let rules = ["stale", "out_of_order", "outlier", "unknown_symbol", "halted"];
    let rules = rules.map(|rule| format!("process.rules.{rule}"));
    let mut settings = vec![("ingest.sim.defects", ALL), ("process.rules.max_age", "sim=72000")];
    settings.extend(rules.iter().map(|rule| (rule.as_str(), "reject")));
    let left = run(&settings).await;
    check(&left, &NAMES, |payload, shifted| {
        let defect = payload.defect.as_str();
        if let Some(end) = always_rejected(defect) {
            return end;
        }
        match defect {
            "future" => rejected("future"),
            "unknown-symbol" => rejected("unknown_symbol"),
            "halted-symbol" => rejected("halted"),
            "out-of-order" => rejected("out_of_order"),
            "old" | "pre-market" | "post-market" | "closed" => rejected("stale"),
            "level-shift" if shifted % 5 == 4 => flagged(&["level_shift"]),
            "level-shift" | "wrong-symbol" | "price-tenth" | "price-hundredth" => {
                rejected("outlier")
            }
            "price-times-10" | "price-times-100" => rejected("outlier"),
            "duplicate" | "" => flagged(&[]),
            other => panic!("the defect {other}"),
        }
    });
}

/// The session of New York that a payload is dated in; what is not dated otherwise, when it came.
fn phase(payload: &Payload) -> Phase {
    let body: serde_json::Value = serde_json::from_slice(&payload.raw.body).expect("JSON");
    let ts = body["ts"].as_str().expect("a text").parse().expect("a time");
    Calendar::UsEquities.at(ts).phase
}

const OUT_OF_HOURS: &str = "pre-market=20,post-market=20,closed=20";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dated_out_of_hours_is_flagged() {
    let left =
        run(&[("ingest.sim.defects", OUT_OF_HOURS), ("process.calendars", "sim=XNYS")]).await;
    check(&left, &["", "pre-market", "post-market", "closed"], |payload, _| {
        let phase = phase(payload);
        match payload.defect.as_str() {
            "pre-market" => assert_eq!(phase, Phase::Pre),
            "post-market" => assert_eq!(phase, Phase::Post),
            "closed" => assert_eq!(phase, Phase::Closed),
            _ => {}
        }
        let session = match phase {
            Phase::Regular => None,
            Phase::Pre => Some("pre_market"),
            Phase::Post => Some("post_market"),
            Phase::Closed => Some("closed"),
        };
        let order = (!payload.defect.is_empty()).then_some("out_of_order");
        flagged(&session.into_iter().chain(order).collect::<Vec<_>>())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dated_out_of_hours_is_rejected_where_the_rules_say_so() {
    let left = run(&[
        ("ingest.sim.defects", OUT_OF_HOURS),
        ("process.calendars", "sim=XNYS"),
        ("process.rules.extended_hours", "reject"),
        ("process.rules.closed", "reject"),
    ])
    .await;
    check(&left, &["", "pre-market", "post-market", "closed"], |payload, _| match phase(payload) {
        Phase::Regular => flagged(&[]),
        Phase::Pre | Phase::Post => rejected("extended_hours"),
        Phase::Closed => rejected("closed"),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_defects_nothing_is_rejected_nor_flagged() {
    let left = run(&[
        ("ingest.sim.jump_every_secs", "5"),
        ("ingest.sim.open_every_secs", "3"),
        ("ingest.sim.halt_every_secs", "2"),
        ("ingest.sim.halt_secs", "1"),
        ("process.rules.unknown_symbol", "reject"),
    ])
    .await;
    check(&left, &[""], |_, _| flagged(&[]));
    assert_eq!(left.dropped, 0);
}
