//! The worker between a consumer, a store and a bucket that fail on demand.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::{Decimal, Source, Symbol, TickKind};
use service::Health;

use super::{last_price::Fault, *};

/// What happened, in order.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Committed(Vec<u64>),
    CommitFailed,
    Put(String, u64),
    PutFailed,
    Acknowledged(u64),
}

/// The world around the worker: what it did, and what is to fail.
#[derive(Clone, Default)]
struct World {
    events: Arc<Mutex<Vec<Event>>>,
    failing_commits: Arc<Mutex<usize>>,
    failing_puts: Arc<Mutex<usize>>,
    /// The value and the revision of each key.
    values: Arc<Mutex<HashMap<String, (Bytes, u64)>>>,
    /// The newest sequence of the stream.
    newest: Arc<Mutex<u64>>,
}

impl World {
    fn happened(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    async fn until(&self, is_done: impl Fn(&[Event]) -> bool) {
        let wait = async {
            while !is_done(&self.events()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(60), wait).await.expect("it never happened");
    }
}

fn takes_one(left: &Mutex<usize>) -> bool {
    let mut left = left.lock().unwrap();
    let takes = *left > 0;
    *left = left.saturating_sub(1);
    takes
}

#[async_trait]
impl TickWriter for World {
    async fn write(&mut self, ticks: &[StoredTick]) -> Result<u64, StoreError> {
        if takes_one(&self.failing_commits) {
            self.happened(Event::CommitFailed);
            return Err(StoreError::too_slow(Duration::from_secs(7)));
        }
        self.happened(Event::Committed(ticks.iter().map(StoredTick::seq).collect()));
        Ok(ticks.len() as u64)
    }
}

#[async_trait]
impl PriceBucket for World {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Fault> {
        Ok(self.values.lock().unwrap().get(key).cloned())
    }

    async fn newest_sequence(&self) -> Result<u64, Fault> {
        Ok(*self.newest.lock().unwrap())
    }

    async fn set(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, Fault> {
        let mut values = self.values.lock().unwrap();
        let before = values.get(key).map(|(_, revision)| *revision);
        if before != revision {
            return Ok(None);
        }
        if takes_one(&self.failing_puts) {
            self.happened(Event::PutFailed);
            return Err("the bucket is away".into());
        }
        let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(value["symbol"], Symbol::from_token(key).unwrap().as_str());
        self.happened(Event::Put(key.to_owned(), value["seq"].as_u64().unwrap()));
        let revision = before.unwrap_or(0) + 1;
        values.insert(key.to_owned(), (value.to_string().into(), revision));
        Ok(Some(revision))
    }
}

/// Delivers its messages, and then fails or waits for ever.
struct Messages {
    world: World,
    messages: VecDeque<Message>,
    fails_at_the_end: bool,
}

#[async_trait]
impl Consumer for Messages {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        match self.messages.pop_front() {
            Some(message) => Ok(message),
            None if self.fails_at_the_end => Err(BrokerError::Unreachable("gone".into())),
            None => std::future::pending().await,
        }
    }

    async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError> {
        self.world.happened(Event::Acknowledged(sequence));
        Ok(())
    }
}

fn message(symbol: &str, sequence: u64) -> Message {
    let symbol = Symbol::new(symbol).unwrap();
    let tick = Tick {
        id: format!("test:{sequence}"),
        symbol: symbol.clone(),
        price: Decimal::parse("1.50").unwrap(),
        size: None,
        currency: "USD".into(),
        exchange: None,
        kind: TickKind::Trade,
        ts: Timestamp::UNIX_EPOCH,
        received_at: Timestamp::UNIX_EPOCH,
        source: Source::new("test").unwrap(),
        raw_seq: sequence,
        flags: Vec::new(),
    };
    Message {
        subject: subject::tick(&symbol),
        headers: nats::Headers::default(),
        body: serde_json::to_vec(&tick).unwrap().into(),
        sequence,
        stored_at: Timestamp::UNIX_EPOCH,
    }
}

struct Bench {
    world: World,
    shutdown: CancellationToken,
    lost: CancellationToken,
    worker: Worker,
}

fn bench() -> Bench {
    let world = World::default();
    let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
    let stop = Stop { shutdown: shutdown.clone(), lost: lost.clone() };
    let (store, bucket) = (Box::new(world.clone()), Box::new(world.clone()));
    let worker = Worker::new(store, bucket, Health::default().check("store"), stop);
    Bench { world, shutdown, lost, worker }
}

impl Bench {
    fn consumer(&self, messages: impl IntoIterator<Item = Message>) -> Messages {
        let messages = messages.into_iter().collect();
        Messages { world: self.world.clone(), messages, fails_at_the_end: false }
    }

    /// Works until `is_done`, then shuts down.
    async fn work(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
        is_done: impl Fn(&[Event]) -> bool,
    ) -> Vec<Event> {
        let mut consumer = self.consumer(messages);
        let (world, shutdown) = (self.world.clone(), self.shutdown.clone());
        let stop = async {
            world.until(is_done).await;
            shutdown.cancel();
        };
        let (worked, ()) =
            tokio::join!(self.worker.work(&mut consumer, Duration::from_secs(5)), stop);
        worked.unwrap();
        self.world.events()
    }
}

fn place(events: &[Event], event: &Event) -> usize {
    events.iter().position(|other| other == event).unwrap_or_else(|| panic!("{event:?} is missing"))
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_committed_then_published_then_acknowledged() {
    let mut bench = bench();
    let messages = [message("A", 4), message("BRK.B", 5), message("A", 6)];
    let events = bench.work(messages, |events| events.contains(&Event::Acknowledged(6))).await;
    assert_eq!(events[0], Event::Committed(vec![4, 5, 6]));
    assert_eq!(events.len(), 4, "one put a symbol, one acknowledgement: {events:?}");
    assert!(place(&events, &Event::Put("A".into(), 6)) < 3);
    assert!(place(&events, &Event::Put("BRK=2EB".into(), 5)) < 3);
    assert_eq!(events[3], Event::Acknowledged(6));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_keeps_the_batch_and_acknowledges_nothing() {
    let mut bench = bench();
    *bench.world.failing_commits.lock().unwrap() = 20;
    let messages = (1..=1_500).map(|seq| message("A", seq));
    let events = bench.work(messages, |events| events.contains(&Event::Acknowledged(1_500))).await;
    assert_eq!(events[..20], vec![Event::CommitFailed; 20]);
    assert_eq!(events[20], Event::Committed((1..=1_000).collect()), "a batch is bounded");
    let early = events[..20].iter().find(|event| matches!(event, Event::Acknowledged(_)));
    assert_eq!(early, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_at_shutdown_leaves_everything_to_be_delivered_again() {
    let mut bench = bench();
    *bench.world.failing_commits.lock().unwrap() = usize::MAX;
    let events = bench.work([message("A", 1)], |events| events.len() >= 3).await;
    assert!(events.iter().all(|event| *event == Event::CommitFailed), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_in_last_price() {
    let mut bench = bench();
    *bench.world.failing_puts.lock().unwrap() = 2;
    let events =
        bench.work([message("A", 1)], |events| events.contains(&Event::Acknowledged(1))).await;
    let put = Event::Put("A".into(), 1);
    let acknowledged = Event::Acknowledged(1);
    let committed = Event::Committed(vec![1]);
    assert_eq!(events, [committed, Event::PutFailed, Event::PutFailed, put, acknowledged]);
}

#[tokio::test(start_paused = true)]
async fn a_symbol_is_published_at_most_once_in_100_ms_and_the_newest_in_the_end() {
    let mut bench = bench();
    let messages = (1..=5_000).map(|seq| message(if seq % 2 == 0 { "A" } else { "B" }, seq));
    let events = bench.work(messages, |events| events.contains(&Event::Acknowledged(5_000))).await;
    let mut puts: HashMap<&str, Vec<u64>> = HashMap::new();
    for event in &events {
        if let Event::Put(key, seq) = event {
            puts.entry(key).or_default().push(*seq);
        }
    }
    // The first 1,000 at once, all that came within the next 100 ms together.
    assert_eq!(puts["A"], [1_000, 5_000]);
    assert_eq!(puts["B"], [999, 4_999]);
    assert!(events.contains(&Event::Acknowledged(1_000)));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_tick_is_passed_over_and_acknowledged() {
    let mut bench = bench();
    let mut no_json = message("A", 1);
    no_json.body = Bytes::from_static(b"{not json");
    let mut far = message("A", 2);
    far.body = String::from_utf8(far.body.to_vec())
        .unwrap()
        .replace("1970-01-01T00:00:00Z", "2500-01-01T00:00:00Z")
        .into();
    let events =
        bench.work([no_json, far], |events| events.contains(&Event::Acknowledged(2))).await;
    assert_eq!(events, [Event::Committed(vec![]), Event::Acknowledged(2)]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_commits_and_acknowledges_what_was_read() {
    let mut bench = bench();
    let mut consumer = bench.consumer([message("A", 1), message("A", 2)]);
    let shutdown = bench.shutdown.clone();
    // Before the batch has waited long enough to be written.
    let stop = async {
        sleep(LINGER / 4).await;
        shutdown.cancel();
    };
    let (worked, ()) = tokio::join!(bench.worker.work(&mut consumer, Duration::from_secs(5)), stop);
    worked.unwrap();
    let committed = Event::Committed(vec![1, 2]);
    let put = Event::Put("A".into(), 2);
    assert_eq!(bench.world.events(), [committed, put, Event::Acknowledged(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_at_once() {
    let mut bench = bench();
    let mut consumer = bench.consumer([message("A", 1)]);
    let lost = bench.lost.clone();
    let stop = async {
        sleep(LINGER / 4).await;
        lost.cancel();
    };
    let (worked, ()) = tokio::join!(bench.worker.work(&mut consumer, Duration::from_secs(5)), stop);
    worked.unwrap();
    assert!(bench.world.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_consumer_begins_at_what_is_not_acknowledged() {
    let mut bench = bench();
    let mut broken = bench.consumer([message("A", 1), message("A", 2)]);
    broken.fails_at_the_end = true;
    let ended = bench.worker.work(&mut broken, Duration::from_secs(5)).await;
    assert!(matches!(ended, Err(BrokerError::Unreachable(_))));
    assert!(bench.world.events().is_empty(), "nothing was committed, so nothing is acknowledged");
    let again = [message("A", 1), message("A", 2), message("A", 3)];
    let events = bench.work(again, |events| events.contains(&Event::Acknowledged(3))).await;
    assert_eq!(events[0], Event::Committed(vec![1, 2, 3]));
}

/// A bucket as another writer has left it, in a stream that has come to `newest`.
fn left(key: &str, seq: u64, newest: u64) -> Bench {
    let bench = bench();
    let value = format!(r#"{{"seq":{seq}}}"#).into();
    bench.world.values.lock().unwrap().insert(key.to_owned(), (value, 7));
    *bench.world.newest.lock().unwrap() = newest;
    bench
}

#[tokio::test(start_paused = true)]
async fn last_price_does_not_go_back_when_ticks_come_again() {
    let mut bench = left("A", 5, 6);
    let messages = [message("A", 3), message("B", 4)];
    let events = bench.work(messages, |events| events.contains(&Event::Acknowledged(4))).await;
    let committed = Event::Committed(vec![3, 4]);
    assert_eq!(events, [committed, Event::Put("B".into(), 4), Event::Acknowledged(4)]);
}

#[tokio::test(start_paused = true)]
async fn last_price_follows_a_stream_that_was_made_anew() {
    let mut bench = left("A", 5_000, 3);
    let messages = [message("A", 3)];
    let events = bench.work(messages, |events| events.contains(&Event::Acknowledged(3))).await;
    assert_eq!(events[1], Event::Put("A".into(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_writer_does_not_overwrite_what_came_after_it() {
    let mut bench = bench();
    *bench.world.newest.lock().unwrap() = 9;
    let mut first = bench.consumer([message("A", 1)]);
    first.fails_at_the_end = false;
    let written = bench.world.clone();
    let (worked, ()) = tokio::join!(
        timeout(Duration::from_secs(1), bench.worker.work(&mut first, Duration::from_secs(5))),
        written.until(|events| events.contains(&Event::Acknowledged(1))),
    );
    assert!(worked.is_err(), "it goes on");
    // Another has written meanwhile.
    let other: Bytes = r#"{"seq":9}"#.into();
    bench.world.values.lock().unwrap().insert("A".to_owned(), (other.clone(), 40));
    bench.work([message("A", 2)], |events| events.contains(&Event::Acknowledged(2))).await;
    assert_eq!(bench.world.values.lock().unwrap()["A"], (other, 40));
}
