//! From a file of trades to a subscriber, every role a process of its own: nothing is lost,
//! nothing doubled, nothing swapped; over both brokers, and while processes are killed.

use std::{sync::Arc, time::Duration};

use nats::{Broker, Start, topology::Stream};
use schemas::headers;

use crate::{
    brokers::Ground,
    eventually::eventually,
    lizards::{Process, Registry},
    subscriber::{Received, Subscriber},
    trades::Trades,
};

const PATIENCE: Duration = Duration::from_secs(180);
const SYMBOLS: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];
const ROLES: [&str; 4] = ["ingest", "process", "provide", "gateway"];

/// A pipeline that replays trades, and a subscriber of two of their four symbols.
struct Pipeline {
    trades: Trades,
    processes: Vec<Process>,
    subscriber: Subscriber,
    ground: Ground,
}

/// What the subscriber follows: the others must not reach it.
const FOLLOWED: [&str; 2] = ["IBM", "SPY"];

impl Pipeline {
    async fn start(mut ground: Ground, trades: Trades, speed: &str) -> Self {
        let Ground { installation, registry, .. } = &mut ground;
        let file = trades.write(installation.folder());
        installation.set("ingest.sources", "file");
        installation.set("ingest.file.path", file.display());
        installation.set("ingest.file.speed", speed);
        announce(registry).await;
        let processes = ROLES.map(|role| installation.role(role)).into();
        let subscriber = Subscriber::follow(Arc::clone(registry), &FOLLOWED);
        Self { trades, processes, subscriber, ground }
    }

    /// Waits until everything has arrived, and checks all of it.
    async fn finish_and_check(self) {
        let usable = self.trades.usable();
        let rejected = self.trades.rows.len() - usable;
        let raw = read(&*self.ground.broker, Stream::Raw, self.trades.rows.len()).await;
        let ticks = read(&*self.ground.broker, Stream::Ticks, usable).await;
        let rejections = read(&*self.ground.broker, Stream::Rejected, rejected).await;
        let followed: usize = FOLLOWED.iter().map(|symbol| self.trades.of(symbol).len()).sum();
        eventually(PATIENCE, &format!("the subscriber has {followed} ticks"), async || {
            (self.subscriber.count() >= followed).then_some(())
        })
        .await;
        // What would come twice has a little time to show itself.
        tokio::time::sleep(Duration::from_millis(500)).await;

        check_raw(&raw, &self.trades);
        check_ticks(&ticks, &self.trades);
        check_rejected(&rejections, &raw, &self.trades);
        check_received(&self.subscriber.received(), &ticks, &self.trades);
        self.check_stores(usable).await;
    }

    /// The store of ticks and the archive hold everything, too.
    async fn check_stores(&self, usable: usize) {
        let provide = self.ground.registry.address("provide").await;
        eventually(PATIENCE, "all ticks are in the store", async || {
            let mut stored = 0;
            for symbol in SYMBOLS {
                stored += stored_ticks(&provide, symbol).await?;
            }
            assert!(stored <= usable, "{stored} ticks are stored of {usable}");
            (stored == usable).then_some(())
        })
        .await;
        let file = self.ground.installation.folder().join("raw.db");
        let archive = sqlx::SqlitePool::connect(&format!("sqlite://{}?mode=ro", file.display()))
            .await
            .expect("the archive is a file");
        eventually(PATIENCE, "all payloads are in the archive", async || {
            let count: i64 = sqlx::query_scalar("select count(*) from raw_ticks")
                .fetch_one(&archive)
                .await
                .ok()?;
            (count == self.trades.rows.len() as i64).then_some(())
        })
        .await;
    }
}

/// Subscribers may come before the first tick when somebody has said which symbols will.
async fn announce(registry: &Registry) {
    let bucket = registry
        .nats
        .bucket(schemas::subject::CONFIG, "what may change while running", None)
        .await
        .expect("a bucket");
    let symbols = serde_json::to_vec(&SYMBOLS).expect("texts are JSON");
    bucket.put(schemas::subject::SYMBOLS_KEY, symbols.into()).await.expect("NATS takes it");
}

/// A message of a stream: subject, headers, body.
struct Stored {
    message: nats::Message,
}

impl Stored {
    fn header(&self, name: &str) -> &str {
        self.message.header(name).unwrap_or_default()
    }

    fn body(&self) -> &str {
        std::str::from_utf8(&self.message.body).expect("UTF-8")
    }
}

/// Waits for so many messages of a stream, and checks that no more come.
async fn read(broker: &dyn Broker, stream: Stream, count: usize) -> Vec<Stored> {
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await.expect("a reader");
    let mut messages = Vec::with_capacity(count);
    let reading = async {
        while messages.len() < count {
            messages.push(Stored { message: reader.next().await.expect("a message") });
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, reading).await.is_ok();
    assert!(in_time, "{stream} holds {} messages, not {count}", messages.len());
    let more = tokio::time::timeout(Duration::from_millis(500), reader.next()).await;
    assert!(more.is_err(), "{stream} holds more than {count} messages: {more:?}");
    messages
}

/// Every row once, in the order of the file, byte for byte.
fn check_raw(raw: &[Stored], trades: &Trades) {
    for (stored, row) in raw.iter().zip(&trades.rows) {
        assert_eq!(stored.body(), row);
        assert_eq!(stored.header(headers::SOURCE), "file");
    }
}

/// Every usable row once, per symbol in the order of the file, with all its digits.
fn check_ticks(ticks: &[Stored], trades: &Trades) {
    for symbol in SYMBOLS {
        let subject = format!("ticks.norm.{symbol}");
        let of_symbol: Vec<schemas::Tick> = ticks
            .iter()
            .filter(|stored| stored.message.subject == subject)
            .map(|stored| serde_json::from_str(stored.body()).expect("a tick"))
            .collect();
        let expected = trades.of(symbol);
        assert_eq!(of_symbol.len(), expected.len(), "{symbol}");
        for (tick, trade) in of_symbol.iter().zip(&expected) {
            assert_eq!(tick.price.to_string(), trade.price);
            assert_eq!(tick.size.map(|size| size.to_string()).as_deref(), Some(&*trade.size));
        }
    }
}

/// Every row that cannot be used once, byte for byte, with where it came from and why. Their order
/// is that of their partitions.
fn check_rejected(rejected: &[Stored], raw: &[Stored], trades: &Trades) {
    let mut rejected: Vec<_> = rejected.iter().collect();
    rejected.sort_by_key(|stored| stored.header(headers::RAW_SEQUENCE).parse::<u64>().ok());
    for (stored, (place, row)) in rejected.into_iter().zip(trades.unusable()) {
        assert_eq!(stored.body(), row);
        let origin = raw[place].message.sequence.to_string();
        assert_eq!(stored.header(headers::RAW_SEQUENCE), origin);
        let subject = &stored.message.subject;
        assert_eq!(*subject, format!("ticks.rejected.file.{}", stored.header(headers::REASON)));
        assert!(!stored.header(headers::ERROR).is_empty(), "{subject}");
    }
}

/// Each tick of the followed symbols once, in the order of the stream, without a false gap.
fn check_received(received: &[Received], ticks: &[Stored], trades: &Trades) {
    let wanted: Vec<_> = ticks
        .iter()
        .filter(|stored| {
            FOLLOWED.iter().any(|s| stored.message.subject == format!("ticks.norm.{s}"))
        })
        .map(|stored| stored.message.sequence)
        .collect();
    let seen: Vec<_> = received.iter().map(|update| update.seq).collect();
    assert_eq!(seen, wanted, "each tick once and in order");
    for symbol in FOLLOWED {
        let of_symbol: Vec<_> = received.iter().filter(|update| update.symbol == symbol).collect();
        let mut prev = 0;
        for (update, trade) in of_symbol.iter().zip(trades.of(symbol)) {
            assert_eq!((&update.price, &update.size), (&trade.price, &trade.size));
            assert_eq!(update.prev, prev, "{symbol} {}", update.seq);
            prev = update.seq;
        }
    }
}

/// Counts what `GET /ticks/{symbol}` gives, page by page.
async fn stored_ticks(provide: &str, symbol: &str) -> Option<usize> {
    crate::servers::install_crypto();
    let mut cursor = None;
    let mut count = 0;
    loop {
        let mut url = format!("http://{provide}/ticks/{symbol}?limit=10000");
        if let Some(cursor) = cursor {
            url = format!("{url}&cursor={cursor}");
        }
        let page: schemas::http::TickPage =
            reqwest::get(url).await.ok()?.error_for_status().ok()?.json().await.ok()?;
        count += page.ticks.len();
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Some(count);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_jetstream_everything_arrives_once_and_in_order() {
    let trades = Trades::from_the_open(5_000).spoil_every(100);
    let ground = Ground::jetstream().await;
    Pipeline::start(ground, trades, "max").await.finish_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_rabbitmq_everything_arrives_once_and_in_order() {
    let trades = Trades::from_the_open(5_000).spoil_every(100);
    let ground = Ground::rabbitmq().await;
    Pipeline::start(ground, trades, "max").await.finish_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_any_role_loses_and_doubles_nothing() {
    let trades = Trades::from_the_open(20_000).spoil_every(100);
    // About 6 minutes of trades in about 18 seconds.
    let mut pipeline = Pipeline::start(Ground::jetstream().await, trades, "20x").await;
    eventually(PATIENCE, "ticks flow", async || (pipeline.subscriber.count() > 100).then_some(()))
        .await;
    for round in 0..2 {
        for (process, role) in pipeline.processes.iter_mut().zip(ROLES) {
            println!("round {round}: kill -9 {role}");
            process.kill().await;
            process.start_again().await;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
    }
    pipeline.finish_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_broker_loses_and_doubles_nothing() {
    let trades = Trades::from_the_open(8_000).spoil_every(100);
    let mut pipeline = Pipeline::start(Ground::jetstream().await, trades, "20x").await;
    eventually(PATIENCE, "ticks flow", async || (pipeline.subscriber.count() > 100).then_some(()))
        .await;
    for _ in 0..2 {
        pipeline.ground.nats.restart().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    pipeline.finish_and_check().await;
}
