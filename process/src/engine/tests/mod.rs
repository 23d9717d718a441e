//! A crash at every call of the broker: whatever was in flight, nothing is lost, doubled or swapped.

mod broker;
mod death;
mod peeking;
mod takeover;

use std::collections::{BTreeMap, HashSet};

use crate::{
    decode::Decoder,
    testing::Failure,
    validate::{Action, Listings, Rules, RulesConfig},
};
use jiff::SignedDuration;
use nats::{Headers, Message};
use schemas::{
    Flag, Format, HtmlField, HtmlSite, NumberFormat, RawTick, Source, Symbol, Tick,
    calendar::Calendars, headers, subject,
};
use service::Health;
use tokio::runtime;

use super::*;
use broker::{Fake, Stores};

/// How often a payload is tried that processes end with.
const TRIES: u32 = 3;

type Raw = (String, Headers, &'static [u8]);

const GOOD: &[u8] = br#"{"symbol":"AAPL","price":"1.50","ts":"2024-01-01T00:00:00Z"}"#;
const OTHER: &[u8] = br#"{"symbol":"MSFT","price":2,"ts":"2024-01-01T00:00:00Z"}"#;
const FUTURE: &[u8] = br#"{"symbol":"AAPL","price":3,"ts":"2025-01-01T00:00:00Z"}"#;
/// Five events: tick, rejection, tick, rejection, tick.
const PAGE: &[u8] = b"<p id=A>1</p><p id=B>no</p><p id=A>2</p><p>3</p><p id=C>4</p>";

fn raw(id: &str, format: Format, body: &'static [u8]) -> Raw {
    // A page with many symbols was asked for by none of them.
    let symbol = if format == Format::Html { None } else { Symbol::new("AAPL").ok() };
    raw_of(id, format, body, symbol)
}

fn raw_of(id: &str, format: Format, body: &'static [u8], symbol: Option<Symbol>) -> Raw {
    let source = Source::new(if format == Format::Html { "html:shop" } else { "sim" }).unwrap();
    let raw = RawTick {
        id: id.into(),
        source: source.clone(),
        symbol: None,
        received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
        content_type: "application/json".into(),
        format,
        columns: None,
        body: body.into(),
    };
    let headers = raw.headers().into_iter().collect();
    (subject::raw(&source, symbol.as_ref()), headers, body)
}

/// A tick of the simulator; the second of its time is its number.
fn sim(number: usize, symbol: &str, price: &str) -> Raw {
    let body = format!(
        r#"{{"symbol":"{symbol}","price":"{price}","ts":"2023-12-31T23:00:{:02}Z"}}"#,
        number % 60
    );
    raw_of(&format!("s{number}"), Format::Sim, body.leak().as_bytes(), Symbol::new(symbol).ok())
}

/// Outliers, some of which make a new level, between the ticks of others; a symbol that is quiet
/// until everybody has forgotten its tick but the stream; an event out of order.
fn restless() -> Vec<Raw> {
    let prices = [
        ("QUIET", "50"),
        ("AAPL", "100"),
        ("AAPL", "1000"),
        ("MSFT", "10"),
        ("AAPL", "101"),
        ("AAPL", "80"),
        ("AAPL", "80.1"),
        ("MSFT", "10.1"),
        ("AAPL", "80"),
        ("AAPL", "80"),
        ("MSFT", "1010"),
        ("AAPL", "80.2"),
        ("QUIET", "500"),
        ("AAPL", "100"),
        ("QUIET", "50.1"),
        ("MSFT", "10"),
    ];
    let mut payloads: Vec<_> =
        (0..).zip(prices).map(|(number, (symbol, price))| sim(number, symbol, price)).collect();
    payloads.push(sim(60, "MSFT", "10"));
    payloads
}

/// Every kind of payload, events that come again soon and late, and a foreign message.
fn payloads() -> Vec<Raw> {
    vec![
        raw("a", Format::Sim, GOOD),
        raw("b", Format::Sim, b"not JSON"),
        raw("p", Format::Html, PAGE),
        raw("a", Format::Sim, GOOD),
        ("ticks.raw.someone.else".into(), Headers::default(), b"?"),
        raw("c", Format::Sim, OTHER),
        raw("b", Format::Sim, b"not JSON"),
        raw("d", Format::Sim, FUTURE),
        raw("p", Format::Html, PAGE),
        raw("a", Format::Sim, GOOD),
        raw("e", Format::Sim, OTHER),
        raw("f", Format::Sim, GOOD),
        raw("e", Format::Sim, OTHER),
    ]
}

const EVENTS: usize = 11 + 2 * 5;

fn engine(broker: &Fake, remembered_ids: usize, outlier: Action) -> Engine {
    let site = HtmlSite {
        name: "shop".into(),
        rows: "p".into(),
        symbol: Some(HtmlField { attribute: "id".into(), ..HtmlField::default() }),
        currency: "EUR".into(),
        decimal_separator: NumberFormat::Point,
        ..HtmlSite::default()
    };
    let mut decoder = Decoder::new("USD", &[site], &[]).unwrap();
    decoder.harm = death::of;
    let reading = Reading {
        decoder,
        rules: Rules {
            config: RulesConfig { outlier, ..RulesConfig::default() },
            max_future: SignedDuration::from_secs(5),
            calendars: Calendars::default(),
            listings: Listings::default(),
        },
    };
    let mut engine = Engine::new(
        Arc::new(broker.clone()),
        Arc::new(reading),
        peek::channel(1).1,
        Limits { remembered_ids, poison_tries: TRIES, drain_deadline: Duration::from_secs(1) },
        Health::default().check("pipeline"),
        Arc::default(),
    );
    engine.notes = Some(broker.notes());
    engine
}

/// Runs sessions until every payload is acknowledged. A `reborn` engine starts as a new process does.
async fn process(broker: &Fake, remembered_ids: usize, outlier: Action, reborn: bool) {
    let mut engine = self::engine(broker, remembered_ids, outlier);
    for _ in 0..100 {
        let stop = broker.until_exhausted(1);
        let ended = engine.session(&stop).await;
        if broker.state().is_done() {
            return;
        }
        if ended.is_err() && reborn {
            engine = self::engine(broker, remembered_ids, outlier);
        }
    }
    panic!("no end after 100 sessions");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// The raw sequence and the event of a message.
fn event(message: &Message) -> (u64, String) {
    let place = output::Stored::read(message).unwrap().place;
    let id = message.header(headers::MESSAGE_ID).unwrap();
    (place.0, id.split('@').next().unwrap().to_owned())
}

fn events(stream: &[Message]) -> Vec<(u64, String)> {
    stream.iter().map(event).collect()
}

fn check_exactness(ticks: &[Message], rejected: &[Message], count: usize) {
    let all: Vec<_> = [events(ticks), events(rejected)].concat();
    assert_eq!(all.len(), count, "an event is lost or doubled: {all:?}");
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), count, "an event is doubled: {all:?}");
    let place = |message: &Message| output::Stored::read(message).unwrap().place;
    assert!(ticks.is_sorted_by_key(place), "ticks are swapped: {ticks:?}");
    assert!(events(rejected).is_sorted_by_key(|(sequence, _)| *sequence), "{rejected:?}");
    let ids: HashSet<_> = ticks.iter().map(|tick| tick.header(headers::MESSAGE_ID)).collect();
    assert_eq!(ids.len(), ticks.len(), "one event made two ticks");
    for message in ticks {
        let tick: Tick = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(message.header(headers::MESSAGE_ID), Some(tick.id.as_str()));
        assert_eq!(message.subject, subject::tick(&tick.symbol));
    }
}

#[test]
fn without_a_crash_every_event_is_stored_once() {
    let broker = Fake::new(&payloads(), [Stores::WithReceipt; 2], None);
    block_on(process(&broker, 100, Action::Flag, false));
    let state = broker.state();
    check_exactness(&state.ticks, &state.rejected, EVENTS);
    let ticks: Vec<_> = events(&state.ticks).into_iter().map(|(_, id)| id).collect();
    assert_eq!(ticks, ["a.0", "p.0", "p.2", "p.4", "c.0", "e.0", "f.0"]);
    let mut reasons = BTreeMap::<_, usize>::new();
    for message in &state.rejected {
        *reasons.entry(message.header(headers::REASON).unwrap()).or_default() += 1;
    }
    let expected = [
        ("duplicate", 6),
        ("envelope", 1),
        ("future", 1),
        ("invalid_field", 2),
        ("malformed", 2),
        ("missing_field", 2),
    ];
    assert_eq!(reasons, BTreeMap::from(expected));
}

/// Without what is said in words.
fn without_detail(rejected: &[Message]) -> Vec<Message> {
    let mut rejected = rejected.to_vec();
    for message in &mut rejected {
        let headers = message.headers.iter().filter(|(name, _)| *name != headers::ERROR);
        message.headers = headers.collect();
    }
    rejected
}

/// A crash at each call of the broker in turn, before and after its effect, whether the engine
/// survives or not, whichever stream is ahead.
fn crash_at_every_call(payloads: &[Raw], events: usize, remembered_ids: usize, outlier: Action) {
    use Stores::{AtOnce, Late, WithReceipt};
    let calm = Fake::new(payloads, [AtOnce; 2], None);
    block_on(process(&calm, remembered_ids, outlier, false));
    let calm = calm.state();
    check_exactness(&calm.ticks, &calm.rejected, events);
    for stores in [
        [AtOnce, AtOnce],
        [WithReceipt, WithReceipt],
        [AtOnce, WithReceipt],
        [WithReceipt, AtOnce],
        [Late, Late],
        [Late, AtOnce],
        [AtOnce, Late],
    ] {
        for (failure, reborn) in [
            (Failure::BeforeEffect, false),
            (Failure::BeforeEffect, true),
            (Failure::AfterEffect, false),
            (Failure::AfterEffect, true),
        ] {
            let mut call = 0;
            loop {
                let broker = Fake::new(payloads, stores, Some((call, failure)));
                block_on(process(&broker, remembered_ids, outlier, reborn));
                let state = broker.state();
                let case = (stores, failure, reborn, call);
                assert_eq!(self::events(&state.ticks), self::events(&calm.ticks), "{case:?}");
                assert_eq!(self::events(&state.rejected), self::events(&calm.rejected), "{case:?}");
                assert_eq!(state.ticks, calm.ticks, "{case:?}");
                // With a short memory an old outlier cannot be compared again, only be known as one.
                let (found, expected) = match remembered_ids {
                    100 => (state.rejected.clone(), calm.rejected.clone()),
                    _ => (without_detail(&state.rejected), without_detail(&calm.rejected)),
                };
                assert_eq!(found, expected, "{case:?}");
                if state.calls() <= call {
                    break;
                }
                call += 1;
            }
            assert!(call > 50, "only {call} calls were tried");
        }
    }
}

#[test]
fn a_crash_at_any_call_changes_nothing() {
    crash_at_every_call(&payloads(), EVENTS, 100, Action::Flag);
}

/// The stream remembers what the memory has forgotten.
#[test]
fn a_crash_at_any_call_changes_nothing_with_a_short_memory() {
    crash_at_every_call(&payloads(), EVENTS, 2, Action::Flag);
}

#[test]
fn a_crash_at_any_call_changes_nothing_without_a_memory() {
    crash_at_every_call(&payloads(), EVENTS, 0, Action::Flag);
}

/// Charts of a symbol: the second has two of the bars once more, one of them restated, and a new
/// one; the others are the second.
fn charts() -> Vec<Raw> {
    const FIRST: &[u8] = br#"{"chart":{"result":[{"meta":{"dataGranularity":"1m"},"timestamp":[60,120],"indicators":{"quote":[{"close":[1.5,1.6]}]}}]}}"#;
    const SECOND: &[u8] = br#"{"chart":{"result":[{"meta":{"dataGranularity":"1m"},"timestamp":[60,120,180,null],"indicators":{"quote":[{"close":[1.5,1.7,1.6]}]}}]}}"#;
    let again = ["y2", "y3", "y4", "y5", "y6", "y7", "y8"];
    let mut charts = vec![raw("y1", Format::YahooChart, FIRST)];
    charts.extend(again.map(|id| raw(id, Format::YahooChart, SECOND)));
    charts
}

#[test]
fn a_bar_that_comes_again_is_one_tick_after_any_crash() {
    for remembered_ids in [100, 1, 0] {
        crash_at_every_call(&charts(), 2 + 7 * 4, remembered_ids, Action::Flag);
    }
    let broker = Fake::new(&charts(), [Stores::AtOnce; 2], None);
    block_on(process(&broker, 100, Action::Flag, false));
    let ids = |message: &Message| message.header(headers::MESSAGE_ID).unwrap().to_owned();
    let ticks: Vec<_> = broker.state().ticks.iter().map(ids).collect();
    let bars = ["1m:60:1.5", "1m:120:1.6", "1m:120:1.7", "1m:180:1.6"];
    assert_eq!(ticks, bars.map(|bar| format!("sim:AAPL:{bar}")));
}

#[test]
fn what_the_rules_remember_is_in_the_streams() {
    let judged = |remembered_ids, outlier| {
        let broker = Fake::new(&restless(), [Stores::AtOnce; 2], None);
        block_on(process(&broker, remembered_ids, outlier, false));
        let state = broker.state();
        check_exactness(&state.ticks, &state.rejected, restless().len());
        let flags = state.ticks.iter().filter_map(|message| {
            let tick: Tick = serde_json::from_slice(&message.body).unwrap();
            Some((tick.raw_seq, *tick.flags.first()?))
        });
        let rejected = events(&state.rejected).into_iter().map(|(sequence, _)| sequence);
        (flags.collect::<Vec<_>>(), rejected.collect::<Vec<_>>())
    };
    use Flag::{LevelShift, OutOfOrder, Outlier};
    let (flags, rejected) = judged(100, Action::Reject);
    assert_eq!(rejected, [3, 6, 7, 9, 10, 11, 13, 14]);
    assert_eq!(flags, [(12, LevelShift), (17, OutOfOrder)]);
    let (flags, rejected) = judged(100, Action::Flag);
    assert!(rejected.is_empty());
    let outliers = [3, 6, 7, 9, 10, 11].map(|sequence| (sequence, Outlier));
    assert_eq!(flags[..6], outliers);
    assert_eq!(flags[6..], [(12, LevelShift), (13, Outlier), (14, Outlier), (17, OutOfOrder)]);
    // Ten times the quiet symbol's only tick, which is older than the memory.
    assert!(judged(6, Action::Reject).1.contains(&13));
    assert!(judged(0, Action::Reject).1.contains(&13));
}

#[test]
fn a_crash_at_any_call_changes_no_judgement() {
    for outlier in [Action::Flag, Action::Reject] {
        crash_at_every_call(&restless(), restless().len(), 100, outlier);
    }
}

/// A quiet symbol is compared with its newest tick, however many others there were.
#[test]
fn a_crash_at_any_call_changes_no_judgement_with_a_short_memory() {
    for outlier in [Action::Flag, Action::Reject] {
        crash_at_every_call(&restless(), restless().len(), 6, outlier);
        crash_at_every_call(&restless(), restless().len(), 0, outlier);
    }
}
