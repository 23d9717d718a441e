//! The raw store away under load: the archive is late, and nothing else; afterwards it is complete.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use ingest::archive::{ArchiveConfig, RawStore, open_to_read};
use nats::{
    Broker, JetStream,
    topology::{Stream, StreamsConfig},
};
use tokio::time::{Instant, sleep};

use crate::{
    eventually::eventually,
    gate::Gate,
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, mongodb, mongodb::MongoDatabase},
    subscriber::{Received, Subscriber},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for the archive to find its store again: it waits up to 10 s between attempts.
const TO_CATCH_UP: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_away_for_seconds_delays_the_archive_alone() {
    mongodb_away(Duration::from_secs(15), 300, TO_CATCH_UP).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour; CONTRIBUTING.md says how it is run"]
async fn mongodb_away_for_ten_minutes_delays_the_archive_alone() {
    mongodb_away(Duration::from_secs(600), 300, Duration::from_secs(2_400)).await;
}

/// MongoDB is away for `time` while so many simulated ticks a second come.
async fn mongodb_away(time: Duration, ticks_per_sec: u32, to_catch_up: Duration) {
    let mut house = House::start(ticks_per_sec).await;
    house.until_archived(100, PATIENCE).await;

    house.gate.shut().await;
    let fetched_before = house.fetched().await;
    let stored_before = house.archived().await;
    let away_since = Instant::now();
    while away_since.elapsed() < time {
        sleep(Duration::from_secs(1)).await;
        house.until_delivered(house.fetched().await).await;
    }
    let fetched_meanwhile = house.fetched().await - fetched_before;
    println!("away: {fetched_meanwhile} fetched, and delivered or rejected");
    assert!(fetched_meanwhile > u64::from(ticks_per_sec) * time.as_secs() / 4, "under load");
    // What was on its way when the gate was shut may have been stored without an answer.
    assert!(house.archived().await - stored_before <= 1_000, "the store is away");

    let back_since = Instant::now();
    house.gate.open().await;
    house.stop_fetching().await;
    let fetched = house.fetched().await;
    house.until_archived(fetched, to_catch_up).await;
    println!("back: {fetched} archived after {:?}", back_since.elapsed());
    house.until_delivered(fetched).await;
    check_received(&house.subscriber.received());
    assert_eq!(house.archived().await, fetched, "each payload once");
}

/// Every role, simulated ticks, an archive in MongoDB behind a gate, and a subscriber of everything.
struct House {
    _nats: NatsServer,
    _mongodb: MongoDatabase,
    gate: Gate,
    installation: Installation,
    _processes: [Process; 4],
    broker: JetStream,
    /// The archive, by a way of its own.
    archive: Box<dyn RawStore>,
    subscriber: Subscriber,
}

impl House {
    async fn start(ticks_per_sec: u32) -> Self {
        let (nats, server) = (NatsServer::start().await, mongodb().await);
        let gate = Gate::open_to(&server.url).await;
        let mut installation = Installation::at(&nats.url());
        installation.set("ingest.sources", "sim");
        installation.set("ingest.sim.ticks_per_sec", ticks_per_sec);
        installation.set("ingest.archive.url", gate.url());
        installation.set("ingest.archive.database", &server.database);
        let processes = ["ingest", "process", "provide", "gateway"].map(|it| installation.role(it));
        let registry = Arc::new(Registry::at(&nats.url()).await);
        let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
        let archive = ArchiveConfig {
            url: server.url.clone(),
            database: server.database.clone(),
            ..ArchiveConfig::default()
        };
        let archive = open_to_read(&archive, Path::new("")).await.expect("it opens to be read");
        let subscriber = Subscriber::follow(registry, &["*"]);
        Self {
            _nats: nats,
            _mongodb: server,
            gate,
            installation,
            _processes: processes,
            broker,
            archive,
            subscriber,
        }
    }

    /// How many payloads there are in all.
    async fn fetched(&self) -> u64 {
        self.broker.state(Stream::Raw).await.expect("NATS answers").last_sequence
    }

    async fn archived(&self) -> u64 {
        self.archive.count().await.expect("it counts")
    }

    async fn until_archived(&self, payloads: u64, limit: Duration) {
        eventually(limit, &format!("{payloads} payloads are archived"), async || {
            // Counting is work for the store, the more the more it has.
            sleep(limit / 100).await;
            self.archive.count().await.ok().filter(|count| *count >= payloads).map(drop)
        })
        .await;
    }

    /// Until so many payloads have become ticks that the subscriber has, or rejections.
    async fn until_delivered(&self, payloads: u64) {
        let since = Instant::now();
        loop {
            let delivered = self.subscriber.count() as u64;
            let rejected = self.stored(Stream::Rejected).await;
            if delivered + rejected >= payloads {
                return;
            }
            let ticks = self.stored(Stream::Ticks).await;
            assert!(
                since.elapsed() < PATIENCE,
                "of {payloads} payloads {ticks} are ticks and {rejected} rejected; {delivered} came"
            );
            sleep(Duration::from_millis(25)).await;
        }
    }

    async fn stored(&self, stream: Stream) -> u64 {
        self.broker.state(stream).await.expect("NATS answers").messages
    }

    /// Nothing new comes any more.
    async fn stop_fetching(&self) {
        let removed = self.installation.command(&["sources", "remove", "sim"]).output();
        assert!(removed.expect("it runs").status.success());
        let mut newest = self.fetched().await;
        eventually(PATIENCE, "the simulator stops", async || {
            sleep(Duration::from_secs(1)).await;
            let before = std::mem::replace(&mut newest, self.fetched().await);
            (before == newest).then_some(())
        })
        .await;
    }
}

/// Each tick once, in order, and nothing between two of a symbol.
fn check_received(received: &[Received]) {
    let mut newest_of = HashMap::new();
    let mut newest = 0;
    for update in received {
        assert!(update.seq > newest, "{} is behind {newest}", update.seq);
        newest = update.seq;
        let before = newest_of.insert(&update.symbol, update.seq).unwrap_or(0);
        assert_eq!(update.prev, before, "{} {}", update.symbol, update.seq);
    }
}
