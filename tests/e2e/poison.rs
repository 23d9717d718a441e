//! A payload that needs more memory than there is: the processor that decodes it is gone, whoever
//! starts it again. It is rejected after a few deaths, once, and all the others are processed.

use std::{process::Command, time::Duration};

use jiff::Timestamp;
use nats::{Broker, Exclusivity, Message, NewMessage, Publisher, Start, topology::Stream};
use schemas::{Format, RawTick, Source, Symbol, headers, subject};
use serde_json::json;

use crate::{
    brokers::Ground,
    eventually::eventually,
    lizards::{Installation, Process, Registry},
};

const PATIENCE: Duration = Duration::from_secs(240);

/// How long it takes until what has ended is started again: its leases are over by then.
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// A site of which a page is read as a tree of its elements: the only thing here that takes memory.
const SITE: &str = r#"[{"name":"shop","url":"https://example.com","rows":"b","symbol":{"attribute":"id"},"price":{},"currency":"EUR","decimal_separator":"."}]"#;

/// A page with more elements than there is memory for.
struct Death {
    /// How much more memory a processor may have than one needs that has nothing to do. Each of its
    /// threads takes 32 MiB as soon as it needs some.
    room_kib: u64,
    /// Each is two elements of some 200 bytes.
    paragraphs: usize,
}

/// As large as a message of NATS may be.
const DEATH: Death = Death { room_kib: 80 * 1024, paragraphs: 250_000 };

/// A client of RabbitMQ has more threads.
const DEATH_OVER_RABBITMQ: Death = Death { room_kib: 256 * 1024, paragraphs: 1_000_000 };

impl Death {
    fn page(&self) -> String {
        "<p>x".repeat(self.paragraphs)
    }
}

/// A provider that sends what the test wants.
struct Provider {
    publisher: Box<dyn Publisher>,
    sent: usize,
}

impl Provider {
    async fn to(broker: &dyn Broker) -> Self {
        let publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await.unwrap();
        Self { publisher, sent: 0 }
    }

    async fn send(&mut self, format: Format, symbol: Option<&str>, body: String) {
        self.sent += 1;
        let source = if format == Format::Html { "html:shop" } else { "push:test" };
        let raw = RawTick {
            id: format!("test:{}", self.sent),
            source: Source::new(source).unwrap(),
            symbol: symbol.map(|symbol| Symbol::new(symbol).unwrap()),
            received_at: Timestamp::now(),
            content_type: "text/plain".to_owned(),
            format,
            columns: None,
            body: body.into(),
        };
        let subject = subject::raw(&raw.source, raw.symbol.as_ref());
        let message = NewMessage { subject, headers: raw.headers(), body: raw.body };
        self.publisher.send(message).await.unwrap();
        self.publisher.confirmed().await.unwrap();
    }

    /// One tick of each of so many symbols, and as many in one page.
    async fn send_innocent(&mut self, symbols: usize) {
        let mut page = String::new();
        for number in 0..symbols {
            let (symbol, ts) = (format!("S{number}"), Timestamp::now());
            let body = json!({"symbol": symbol, "price": "1.50", "ts": ts}).to_string();
            self.send(Format::Sim, Some(&symbol), body).await;
            page.push_str(&format!("<b id=S{number}>1.60</b>"));
        }
        self.send(Format::Html, None, page).await;
    }
}

/// What a processor with nothing to do has of memory, in KiB.
async fn usual_memory(installation: &Installation, registry: &Registry) -> u64 {
    let process = limited(installation, None);
    registry.address("process").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("on Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A processor that gets no more memory than that.
fn limited(installation: &Installation, memory_kib: Option<u64>) -> Process {
    let process = installation.command(&["process"]);
    let limit = memory_kib.map_or("unlimited".to_owned(), |memory| memory.to_string());
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -d {limit}; exec \"$0\" \"$@\"")]);
    command.arg(process.get_program()).args(process.get_args());
    command.envs(process.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Its allocator must not take a gibibyte before anybody needs it.
    command.env("MIMALLOC_ARENA_RESERVE", "0");
    Process::of("process", &command)
}

async fn messages(broker: &dyn Broker, stream: Stream) -> u64 {
    broker.state(stream).await.map_or(0, |state| state.messages)
}

/// Starts again what has ended until the streams have so many messages; how often each has ended.
async fn supervise(
    broker: &dyn Broker,
    processors: &mut [Process],
    ticks: usize,
    rejected: usize,
) -> Vec<usize> {
    let mut deaths = vec![0; processors.len()];
    eventually(PATIENCE, &format!("{ticks} ticks and {rejected} rejections"), async || {
        for (processor, deaths) in processors.iter_mut().zip(&mut deaths) {
            if processor.has_ended() {
                *deaths += 1;
                tokio::time::sleep(RESTART_AFTER).await;
                processor.start_again().await;
            }
        }
        // With RabbitMQ each look leaves a mark in the stream.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stored =
            [messages(broker, Stream::Ticks).await, messages(broker, Stream::Rejected).await];
        (stored[0] >= ticks as u64 && stored[1] >= rejected as u64).then_some(())
    })
    .await;
    deaths
}

async fn read(broker: &dyn Broker, stream: Stream) -> Vec<Message> {
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await.unwrap();
    let mut messages = Vec::new();
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(2), reader.next()).await {
        messages.push(message.unwrap());
    }
    messages
}

/// Lets so many processors die; how often each has.
async fn die_and_recover(ground: Ground, processors: usize, death: &Death) -> Vec<usize> {
    const SYMBOLS: usize = 40;
    let (mut installation, registry) = (ground.installation, ground.registry);
    installation.set("html", SITE);
    let broker = &*ground.broker;
    let memory = usual_memory(&installation, &registry).await + death.room_kib;
    let mut provider = Provider::to(broker).await;
    provider.send_innocent(SYMBOLS).await;
    provider.send(Format::Html, None, death.page()).await;
    let deadly = provider.sent;
    provider.send_innocent(SYMBOLS).await;

    let mut running: Vec<_> =
        (0..processors).map(|_| limited(&installation, Some(memory))).collect();
    let deaths = supervise(broker, &mut running, 4 * SYMBOLS, 1).await;
    // Those who are behind die of nothing any more.
    provider.send_innocent(SYMBOLS).await;
    let later = supervise(broker, &mut running, 6 * SYMBOLS, 1).await;

    let rejected = read(broker, Stream::Rejected).await;
    let [poison] = rejected.as_slice() else { panic!("{rejected:?}") };
    assert_eq!(poison.header(headers::REASON), Some("poison"));
    assert_eq!(
        poison.header(headers::MESSAGE_ID).unwrap().split('.').next(),
        Some(&*format!("test:{deadly}"))
    );
    assert_eq!(poison.header(headers::BODY), Some("left out"), "it is too large to be there twice");
    let error = poison.header(headers::ERROR).unwrap();
    assert!(error.starts_with("each of the 3 processes that decoded it by itself"), "{error}");
    let mut ids: Vec<_> = read(broker, Stream::Ticks).await;
    ids.sort_unstable_by_key(|tick| tick.header(headers::MESSAGE_ID).map(str::to_owned));
    let count = ids.len();
    ids.dedup_by_key(|tick| tick.header(headers::MESSAGE_ID).map(str::to_owned));
    assert_eq!((count, ids.len()), (6 * SYMBOLS, 6 * SYMBOLS), "each event is a tick once");
    for processor in &running {
        assert!(processor.log().contains("memory allocation of"), "{}", processor.log());
    }
    deaths.iter().zip(later).map(|(deaths, later)| deaths + later).collect()
}

/// Two that suspect nothing, and three tries; one or the other has come a little farther before.
fn check_one(deaths: &[usize]) {
    let [deaths] = *deaths else { panic!("{deaths:?}") };
    assert!((5..=9).contains(&deaths), "{deaths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_ends_its_processor_is_rejected_once() {
    check_one(&die_and_recover(Ground::jetstream().await, 1, &DEATH).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_ends_two_processors_is_rejected_once() {
    let deaths = die_and_recover(Ground::jetstream().await, 2, &DEATH).await;
    // Each may have to find out by itself, while partitions move between them.
    assert!(deaths.iter().all(|deaths| *deaths <= 10), "{deaths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_ends_its_processor_is_rejected_once_over_rabbitmq() {
    check_one(&die_and_recover(Ground::rabbitmq().await, 1, &DEATH_OVER_RABBITMQ).await);
}
