//! While NATS is away feeds go on into the spool, and everything is published afterwards: once, and
//! in order.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use nats::{
    Broker, JetStream, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::headers;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::NatsServer,
};

const PATIENCE: Duration = Duration::from_secs(90);

/// A feed as Coinbase documents it: whoever subscribes gets the last trade, and then each new one.
struct Feed {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The number of the newest trade.
    newest: AtomicU64,
    halted: AtomicBool,
    connections: AtomicU64,
}

impl Feed {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // One follows at a time: the connection of a killed one ends by itself.
                serve(client, &serving).await;
            }
        });
        Self { address, state }
    }

    fn newest(&self) -> u64 {
        self.state.newest.load(Ordering::SeqCst)
    }

    /// Whether the market has a break.
    fn halt(&self, halted: bool) {
        self.state.halted.store(halted, Ordering::SeqCst);
    }
}

/// The answer to a subscription.
const SUBSCRIPTIONS: &str = r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]},{"name":"heartbeat","product_ids":["BTC-USD"]}]}"#;

async fn serve(client: TcpStream, state: &State) {
    let Ok(mut socket) = accept_async(client).await else { return };
    state.connections.fetch_add(1, Ordering::SeqCst);
    let Some(Ok(_subscription)) = socket.next().await else { return };
    if socket.send(Message::text(SUBSCRIPTIONS)).await.is_err() {
        return;
    }
    let last = state.newest.load(Ordering::SeqCst);
    if last > 0 && socket.send(trade("last_match", last)).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            _ = socket.next() => return,
            () = tokio::time::sleep(Duration::from_millis(4)) => {}
        }
        if state.halted.load(Ordering::SeqCst) {
            continue;
        }
        let next = state.newest.fetch_add(1, Ordering::SeqCst) + 1;
        if socket.send(trade("match", next)).await.is_err() {
            return;
        }
    }
}

fn trade(kind: &str, number: u64) -> Message {
    Message::text(format!(
        r#"{{"type":"{kind}","trade_id":{number},"sequence":{number},"time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}}"#
    ))
}

/// A NATS, a feed, and an ingest that follows it.
struct Scene {
    nats: NatsServer,
    feed: Feed,
    installation: Installation,
    ingest: Process,
    /// Where the ingest answers.
    at: String,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (nats, feed) = (NatsServer::start().await, Feed::start().await);
        let mut installation = Installation::at(&nats.url());
        installation.set("ingest.sources", "coinbase");
        installation.set("ingest.coinbase.url", format!("ws://{}", feed.address));
        installation.set("ingest.coinbase.symbols", "BTC-USD");
        installation.set("ingest.archive.url", "none");
        settings.iter().for_each(|(key, value)| installation.set(key, value));
        let ingest = installation.role("ingest");
        let at = Registry::at(&nats.url()).await.address("ingest").await;
        let scene = Self { nats, feed, installation, ingest, at };
        eventually(PATIENCE, "trades are published", async || {
            (scene.stored().await? > 50).then_some(())
        })
        .await;
        assert_eq!(scene.segments(), 0, "nothing is spooled while NATS is there");
        scene
    }

    /// How many payloads the stream has.
    async fn stored(&self) -> Option<u64> {
        let nats = Registry::at(&self.nats.url()).await.nats;
        let broker = JetStream::new(nats, StreamsConfig::default());
        Some(broker.state(Stream::Raw).await.ok()?.messages)
    }

    fn spool(&self) -> std::path::PathBuf {
        self.installation.folder().join("spool/coinbase")
    }

    fn segments(&self) -> usize {
        files(&self.spool()).len()
    }

    async fn spooled_up_to(&self, number: u64) {
        let wanted = format!("coinbase:BTC-USD:{number}\"").into_bytes();
        eventually(PATIENCE, &format!("trade {number} is spooled"), async || {
            files(&self.spool())
                .iter()
                .any(|file| file.windows(wanted.len()).any(|bytes| bytes == wanted))
                .then_some(())
        })
        .await;
    }

    async fn metric(&self, line: &str) {
        eventually(PATIENCE, &format!("the metrics say {line}"), async || {
            let answer = reqwest::get(format!("http://{}/metrics", self.at)).await.ok()?;
            answer.text().await.ok()?.lines().any(|told| told == line).then_some(())
        })
        .await;
    }

    /// Ends the trading, waits until all trades are published, and looks at each.
    async fn everything_is_there_once_and_in_order(&self) {
        self.feed.halt(true);
        // One may be on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let all = self.feed.newest();
        eventually(PATIENCE, "everything is published", async || {
            self.stored().await.filter(|stored| *stored >= all)
        })
        .await;
        let nats = Registry::at(&self.nats.url()).await.nats;
        let broker = JetStream::new(nats, StreamsConfig::default());
        assert_eq!(broker.state(Stream::Raw).await.expect("it answers").messages, all);
        let reader = broker.reader(Stream::Raw, &[], Start::Sequence(1)).await;
        let mut reader = reader.expect("there is a stream");
        for number in 1..=all {
            let message = reader.next().await.expect("it is there");
            let wanted = format!("coinbase:BTC-USD:{number}");
            assert_eq!(message.header(headers::MESSAGE_ID), Some(&*wanted));
            let body = String::from_utf8_lossy(&message.body);
            assert!(body.contains(&format!("\"trade_id\":{number},")), "{body}");
        }
        eventually(PATIENCE, "the spool is empty", async || (self.segments() == 0).then_some(()))
            .await;
    }
}

/// The contents of the segments in a spool.
fn files(spool: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = spool.read_dir() else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let segments = paths.filter(|path| path.extension().is_some_and(|found| found == "spool1"));
    segments.filter_map(|path| std::fs::read(path).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_goes_on_while_nats_is_away() {
    let mut scene = Scene::start(&[]).await;
    scene.nats.kill().await;
    // Several times as long as a lease lives without being renewed.
    let later = scene.feed.newest() + 1_500;
    scene.spooled_up_to(later).await;
    scene.nats.restart().await;
    scene.everything_is_there_once_and_in_order().await;
    let connections = scene.feed.state.connections.load(Ordering::SeqCst);
    assert_eq!(connections, 1, "the feed was never interrupted");
    scene.metric("lizards_ingest_spool_bytes{kind=\"coinbase\"} 0").await;

    // It still has the source, and publishes without the disk.
    scene.feed.halt(false);
    let later = scene.feed.newest() + 100;
    eventually(PATIENCE, "new trades are published", async || {
        scene.stored().await.filter(|stored| *stored >= later)
    })
    .await;
    assert_eq!(scene.segments(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_ingest_has_spooled_is_published_first() {
    let mut scene = Scene::start(&[]).await;
    scene.nats.kill().await;
    let later = scene.feed.newest() + 500;
    scene.spooled_up_to(later).await;
    // What is on the way to a process that is killed nobody can save.
    scene.feed.halt(true);
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.spooled_up_to(scene.feed.newest()).await;
    scene.ingest.kill().await;
    let segment = scene.spool().join("00000000000000000001.spool1");
    let mut torn = std::fs::read(&segment).expect("there is one segment");
    torn.extend(b"\x20\x00\x00\x00 a record that was cut");
    std::fs::write(&segment, torn).expect("the folder is ours");

    scene.nats.restart().await;
    scene.feed.halt(false);
    scene.ingest.start_again().await;
    let later = scene.feed.newest() + 300;
    eventually(PATIENCE, "new trades are published", async || {
        scene.stored().await.filter(|stored| *stored >= later)
    })
    .await;
    scene.everything_is_there_once_and_in_order().await;
    assert!(scene.ingest.log().contains("a torn end of the spool was cut away"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_pauses_its_source_and_says_so() {
    crate::servers::install_crypto();
    let mut scene = Scene::start(&[("ingest.spool.max_bytes", "100000")]).await;
    scene.nats.kill().await;
    scene.metric("lizards_ingest_spool_full{kind=\"coinbase\"} 1").await;
    assert!(scene.ingest.log().contains("the spool is full: the source is paused"));
    let url = format!("http://{}/sources/coinbase", scene.at);
    let told = reqwest::get(url).await.expect("it answers").text().await.expect("text");
    assert!(told.contains("\"state\":\"backing_off\""), "{told}");
    scene.nats.restart().await;
    scene.metric("lizards_ingest_spool_full{kind=\"coinbase\"} 0").await;
    scene.everything_is_there_once_and_in_order().await;
}
