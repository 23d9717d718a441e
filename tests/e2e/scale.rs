//! Several processors share the symbols while some are added, killed and removed under load: every
//! trade becomes one tick, in order, whoever processed it.

use std::{collections::BTreeMap, time::Duration};

use nats::{
    Broker, JetStream, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::{Tick, headers};

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::NatsServer,
    trades::Trades,
};

const PATIENCE: Duration = Duration::from_secs(180);

/// Each of the four symbols of the trades is in one of its own of these.
const PARTITIONS: u16 = 15;

/// A part of the day, and how many ticks it has.
struct Slice {
    trades: Trades,
    ticks: usize,
}

impl Slice {
    /// With rows that must be rejected.
    fn of(count: usize) -> Self {
        let trades = Trades::from_the_open(count).spoil_every(100);
        Self { ticks: trades.usable(), trades }
    }

    /// Everything that was made of it: each row once, in order, and each of them somewhere.
    async fn check(&self, broker: &JetStream) {
        let ticks = read(broker, Stream::Ticks, self.ticks).await;
        let rejected = read(broker, Stream::Rejected, self.trades.rows.len() - self.ticks).await;
        let mut by_symbol = BTreeMap::<_, Vec<Tick>>::new();
        for message in &ticks {
            let tick: Tick = serde_json::from_slice(&message.body).expect("a tick");
            by_symbol.entry(tick.symbol.to_string()).or_default().push(tick);
        }
        for (symbol, ticks) in &by_symbol {
            let raw: Vec<_> = ticks.iter().map(|tick| tick.raw_seq).collect();
            assert!(raw.is_sorted_by(|a, b| a < b), "{symbol} is swapped or doubled");
            let trades = self.trades.of(symbol);
            assert_eq!(ticks.len(), trades.len(), "{symbol}");
            for (tick, trade) in ticks.iter().zip(&trades) {
                assert_eq!(tick.price.to_string(), trade.price, "{symbol} {}", tick.raw_seq);
            }
        }
        let sequence = |message: &nats::Message| {
            message.header(headers::RAW_SEQUENCE).and_then(|value| value.parse::<u64>().ok())
        };
        let mut all: Vec<_> = ticks.iter().chain(&rejected).filter_map(sequence).collect();
        all.sort_unstable();
        assert_eq!(all, (1..=self.trades.rows.len() as u64).collect::<Vec<_>>(), "in = out");
    }
}

async fn read(broker: &JetStream, stream: Stream, count: usize) -> Vec<nats::Message> {
    let reached = || async {
        let state = broker.state(stream).await.ok()?;
        (state.messages >= count as u64).then_some(())
    };
    eventually(PATIENCE, &format!("{stream} has {count} messages"), reached).await;
    // What would come twice has a little time to show itself.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await.expect("a reader");
    let mut messages = Vec::with_capacity(count);
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(2), reader.next()).await {
        messages.push(message.expect("a message"));
    }
    assert_eq!(messages.len(), count, "{stream}");
    messages
}

/// An installation that replays a slice, with one processor.
async fn start(
    nats: &NatsServer,
    slice: &Slice,
    speed: &str,
) -> (Installation, JetStream, Vec<Process>) {
    let mut installation = Installation::at(&nats.url());
    let file = slice.trades.write(installation.folder());
    installation.set("ingest.sources", "file");
    installation.set("ingest.file.path", file.display());
    installation.set("ingest.file.speed", speed);
    installation.set("process.partitions", PARTITIONS);
    let registry = Registry::at(&nats.url()).await;
    let broker = JetStream::new(registry.nats, StreamsConfig::default());
    broker.declare().await.expect("NATS has JetStream");
    let processes = vec![installation.role("ingest"), installation.role("process")];
    (installation, broker, processes)
}

async fn ticks(broker: &JetStream) -> u64 {
    broker.state(Stream::Ticks).await.map_or(0, |state| state.messages)
}

/// Waits until so many more ticks are stored.
async fn progress(broker: &JetStream, more: u64) {
    let from = ticks(broker).await;
    eventually(PATIENCE, "ticks flow", async || (ticks(broker).await >= from + more).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_come_and_go_and_nothing_is_lost_doubled_or_swapped() {
    let nats = NatsServer::start().await;
    let slice = Slice::of(30_000);
    // About 9 minutes of trades in about 25 seconds.
    let (installation, broker, mut processes) = start(&nats, &slice, "20x").await;
    progress(&broker, 100).await;
    println!("two more join");
    processes.push(installation.role("process"));
    processes.push(installation.role("process"));
    eventually(PATIENCE, "the new ones own something", async || {
        let own = |process: &Process| process.log().contains("processing partitions");
        processes[2..].iter().all(own).then_some(())
    })
    .await;
    progress(&broker, 1_000).await;
    println!("kill -9 the first");
    processes[1].kill().await;
    progress(&broker, 1_000).await;
    println!("stop the second");
    drop(processes.remove(2));
    progress(&broker, 1_000).await;
    println!("the first comes back");
    processes[1].start_again().await;
    progress(&broker, 1_000).await;
    println!("kill -9 the third");
    processes[2].kill().await;
    slice.check(&broker).await;
}

/// A processor that stalls does not know that others own what it had; when it wakes it has much to
/// say, and none of it may be stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_stalls_is_shut_out() {
    let nats = NatsServer::start().await;
    let slice = Slice::of(10_000);
    let (installation, broker, mut processes) = start(&nats, &slice, "20x").await;
    progress(&broker, 100).await;
    processes.push(installation.role("process"));
    eventually(PATIENCE, "both own something", async || {
        processes[2].log().contains("processing partitions").then_some(())
    })
    .await;
    progress(&broker, 300).await;
    processes[1].signal("STOP");
    // Longer than its leases last.
    tokio::time::sleep(Duration::from_secs(3)).await;
    processes[1].signal("CONT");
    slice.check(&broker).await;
}

/// With another number of partitions everything goes on where it stood.
#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_can_be_cut_anew() {
    let nats = NatsServer::start().await;
    let slice = Slice::of(10_000);
    let (mut installation, broker, mut processes) = start(&nats, &slice, "20x").await;
    progress(&broker, 500).await;
    processes[1].kill().await;
    for partitions in [3, 20] {
        installation.set("process.partitions", partitions);
        let mut process = installation.role("process");
        progress(&broker, 500).await;
        process.kill().await;
    }
    installation.set("process.partitions", 1);
    let _last = installation.role("process");
    slice.check(&broker).await;
}
