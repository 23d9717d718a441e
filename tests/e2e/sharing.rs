//! Several instances of ingest share a source that can be divided, while they come and go, and while
//! NATS does: whoever fetches a symbol, its payloads are stored in the order in which the provider gave
//! them, each once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::Query, routing::get};
use nats::{
    Broker, JetStream, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::{headers, http::SourceStatus};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, install_crypto},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// So many that every slice has some.
const SYMBOLS: usize = 48;

/// How often a symbol is asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a machine that does much else may take for what takes no time.
const SLACK: Duration = Duration::from_secs(10);

/// A provider like Alpha Vantage that numbers its answers.
#[derive(Clone, Default)]
pub(crate) struct Provider {
    /// When each symbol was asked for, in the order of the answers.
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
    /// While it is halted, it answers nobody.
    halted: watch::Sender<bool>,
}

impl Provider {
    /// Where it is asked.
    async fn serve(&self) -> String {
        let provider = self.clone();
        let quote = move |Query(query): Query<HashMap<String, String>>| {
            let (provider, symbol) = (provider.clone(), query["symbol"].clone());
            async move { provider.answer(&symbol).await }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/query", get(quote));
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/query")
    }

    async fn answer(&self, symbol: &str) -> String {
        self.halted.subscribe().wait_for(|halted| !halted).await.unwrap();
        let mut asked = self.asked.lock().unwrap();
        asked.push((symbol.to_owned(), Instant::now()));
        let n = asked.len();
        format!(
            r#"{{"Global Quote":{{"01. symbol":"{symbol}","05. price":"{n}","06. volume":"1"}}}}"#
        )
    }

    /// When it was asked.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.asked.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }

    /// Waits until it was asked so many times.
    pub(crate) async fn asked(&self, times: usize) {
        eventually(PATIENCE, &format!("{times} requests"), async || {
            (self.times().len() >= times).then_some(())
        })
        .await;
    }

    /// The number of the newest answer.
    fn newest(&self) -> u64 {
        self.asked.lock().unwrap().len() as u64
    }

    /// Waits until every symbol was asked for several times more.
    async fn progress(&self, rounds: u64) {
        let wanted = self.newest() + rounds * SYMBOLS as u64;
        eventually(PATIENCE, "symbols are asked for", async || {
            (self.newest() >= wanted).then_some(())
        })
        .await;
    }

    /// When each symbol was asked for first after that time.
    fn first_after(&self, time: Instant) -> BTreeMap<String, Instant> {
        let mut first = BTreeMap::new();
        for (symbol, at) in self.asked.lock().unwrap().iter().filter(|(_, at)| *at > time) {
            first.entry(symbol.clone()).or_insert(*at);
        }
        first
    }
}

/// Instances of ingest that are configured alike.
pub(crate) struct House {
    pub(crate) registry: Registry,
    broker: JetStream,
    pub(crate) installation: Installation,
    instances: BTreeMap<&'static str, Process>,
    pub(crate) provider: Provider,
    nats: NatsServer,
}

impl House {
    pub(crate) async fn start() -> Self {
        install_crypto();
        let (nats, provider) = (NatsServer::start().await, Provider::default());
        let mut installation = Installation::at(&nats.url());
        let symbols: Vec<_> = (0..SYMBOLS).map(|n| format!("S{n}")).collect();
        installation.set("ingest.sources", "alphavantage");
        installation.set("ingest.alphavantage.url", provider.serve().await);
        installation.set("ingest.alphavantage.api_key", "k3y");
        installation.set("ingest.alphavantage.symbols", symbols.join(","));
        installation.set("ingest.alphavantage.interval_secs", INTERVAL.as_secs());
        installation.set("ingest.alphavantage.requests_per_minute", 0);
        installation.set("ingest.alphavantage.requests_per_day", 0);
        let registry = Registry::at(&nats.url()).await;
        let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
        broker.declare().await.unwrap();
        Self { registry, broker, installation, instances: BTreeMap::new(), provider, nats }
    }

    /// Two of them that share the symbols and fetch.
    async fn of_two() -> Self {
        let mut house = Self::start().await;
        house.join("a");
        house.join("b");
        house.shared(&[("a", 4), ("b", 4)]).await;
        house.progress().await;
        house
    }

    /// Waits until this instance has the leases of all slices.
    async fn owned_by(&self, instance: &str) {
        let keys: Vec<_> = (0..8).map(|slice| format!("ingest.alphavantage.{slice}")).collect();
        eventually(PATIENCE, &format!("{instance} has all leases"), async || {
            let holders = self.registry.nats.holders(&keys).await.ok()?;
            holders.iter().all(|holder| holder.as_deref() == Some(instance)).then_some(())
        })
        .await;
    }

    /// Starts one.
    pub(crate) fn join(&mut self, name: &'static str) {
        self.installation.set("service.instance", name);
        self.instances.insert(name, self.installation.role("ingest"));
    }

    /// Kills one as a crash would, and starts it again.
    pub(crate) async fn crash(&mut self, name: &str) {
        let instance = self.instances.get_mut(name).unwrap();
        instance.kill().await;
        instance.start_again().await;
    }

    /// What the first instance that answers says.
    async fn status(&self) -> Option<SourceStatus> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5));
        let client = client.build().unwrap();
        for instance in self.registry.instances("ingest") {
            let (host, port) = (instance.ip_address, instance.port_number);
            let url = format!("http://{host}:{port}/sources/alphavantage");
            let Ok(answer) = client.get(url).send().await else { continue };
            return answer.json().await.ok();
        }
        None
    }

    /// Waits until these own so many slices each, and all of them together.
    pub(crate) async fn shared(&self, wanted: &[(&str, usize)]) {
        let what = format!("the slices are shared as {wanted:?}");
        eventually(PATIENCE, &what, async || {
            let owners = self.status().await?.owners;
            let slices: BTreeSet<u16> =
                owners.iter().flat_map(|owner| owner.slices.clone()).collect();
            let mut sizes: Vec<_> =
                owners.iter().map(|owner| (owner.instance.as_str(), owner.slices.len())).collect();
            sizes.sort_unstable();
            (sizes == wanted && slices.len() == 8).then_some(())
        })
        .await;
    }

    /// Waits until every symbol has been fetched again.
    async fn progress(&self) {
        let count = async || self.broker.state(Stream::Raw).await.map_or(0, |state| state.messages);
        let before = count().await;
        eventually(PATIENCE, "payloads are published", async || {
            (count().await >= before + 3 * SYMBOLS as u64).then_some(())
        })
        .await;
    }

    /// Waits until all these answers are stored. An instance may stay away for some seconds after NATS
    /// is back, while the others publish.
    async fn stored(&self, answers: RangeInclusive<u64>) {
        eventually(PATIENCE, &format!("the answers {answers:?} are stored"), async || {
            let stored: BTreeSet<_> =
                numbers(&self.broker).await.into_iter().map(|(_, number)| number).collect();
            let lost = answers.clone().find(|number| !stored.contains(number));
            lost.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_and_every_symbol_has_one_owner() {
    let mut house = House::start().await;
    house.join("a");
    house.shared(&[("a", 8)]).await;
    house.progress().await;
    house.join("b");
    house.shared(&[("a", 4), ("b", 4)]).await;
    house.progress().await;
    println!("kill -9 a");
    house.instances.get_mut("a").unwrap().kill().await;
    let killed = Instant::now();
    house.owned_by("b").await;
    let owned = Instant::now();
    let lease = house.registry.nats.lease_ttl();
    assert!(owned - killed < lease + SLACK, "taken over after {:?}", owned - killed);
    house.shared(&[("b", 8)]).await;
    house.progress().await;
    let first = house.provider.first_after(killed);
    assert_eq!(first.len(), SYMBOLS, "every symbol is asked for again");
    for (symbol, at) in first {
        let after = at - killed;
        assert!(after < lease + INTERVAL + SLACK, "{symbol} is asked for after {after:?}");
    }
    println!("a comes back, and c joins");
    house.instances.get_mut("a").unwrap().start_again().await;
    house.shared(&[("a", 4), ("b", 4)]).await;
    house.join("c");
    eventually(PATIENCE, "all three own something", async || {
        let owners = house.status().await?.owners;
        (owners.len() == 3 && owners.iter().all(|owner| owner.slices.len() <= 3)).then_some(())
    })
    .await;
    house.progress().await;
    println!("b stops");
    drop(house.instances.remove("b"));
    house.shared(&[("a", 4), ("c", 4)]).await;
    house.progress().await;
    house.instances.clear();
    check(&house.broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_instances_fetch_while_nats_is_away_is_published_once_and_in_order() {
    let mut house = House::of_two().await;
    let from = house.provider.newest() + 1;
    house.nats.kill().await;
    // Several times as long as a lease lives without being renewed.
    house.provider.progress(6).await;
    house.nats.restart().await;
    house.provider.progress(3).await;
    house.shared(&[("a", 4), ("b", 4)]).await;
    let to = house.provider.newest();
    house.stored(from..=to).await;
    house.instances.clear();
    check(&house.broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_has_spooled_is_published_though_another_has_its_symbols() {
    let mut house = House::of_two().await;
    let from = house.provider.newest() + 1;
    house.nats.kill().await;
    house.provider.progress(6).await;
    // What is on the way to a process that is killed nobody can save.
    house.provider.halted.send_replace(true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let to = house.provider.newest();
    house.instances.get_mut("a").unwrap().kill().await;
    house.nats.restart().await;
    house.provider.halted.send_replace(false);
    house.shared(&[("b", 8)]).await;
    house.provider.progress(3).await;
    house.instances.get_mut("a").unwrap().start_again().await;
    house.shared(&[("a", 4), ("b", 4)]).await;
    house.stored(from..=to).await;
    house.instances.clear();
    // Out of order, but each once.
    numbers(&house.broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_sources_are_shared_and_taken_over_and_each_has_one_owner_at_a_time() {
    let mut house = House::start().await;
    house.installation.set("ingest.sources", "sim,file,alphavantage");
    house.installation.set("ingest.alphavantage.symbols", "S0");
    let file = house.installation.folder().join("trades.csv");
    let rows: String = (0..100_000).map(|n| format!("{},IBM,1.5,1\n", n * 1_000)).collect();
    std::fs::write(&file, format!("ts_ms,symbol,price,size\n{rows}")).unwrap();
    house.installation.set("ingest.file.path", file.display());
    house.installation.set("ingest.file.speed", "100x");
    let keys = ["ingest.sim".to_owned(), "ingest.file".to_owned()];
    let slice = (0..8).map(|slice| format!("ingest.alphavantage.{slice}"));
    let keys: Vec<_> = keys.into_iter().chain(slice).collect();
    let nats = house.registry.nats.clone();
    let owners = async || -> Option<Vec<String>> {
        Some(nats.holders(&keys).await.ok()?.into_iter().flatten().collect())
    };
    house.join("a");
    eventually(PATIENCE, "a has all", async || (owners().await? == ["a", "a", "a"]).then_some(()))
        .await;
    house.join("b");
    let moved = eventually(PATIENCE, "b has something", async || {
        let owners = owners().await?;
        (owners.len() == 3 && owners.iter().any(|owner| owner == "b")).then_some(owners)
    });
    println!("{:?}, then kill -9 a", moved.await);
    let payloads = async |wanted: u64| {
        let before = house.broker.state(Stream::Raw).await.unwrap().messages;
        eventually(PATIENCE, "payloads are published", async || {
            let now = house.broker.state(Stream::Raw).await.ok()?.messages;
            (now >= before + wanted).then_some(())
        })
        .await;
    };
    payloads(50).await;
    house.instances.get_mut("a").unwrap().kill().await;
    let killed = Instant::now();
    eventually(PATIENCE, "b has all", async || (owners().await? == ["b", "b", "b"]).then_some(()))
        .await;
    assert!(killed.elapsed() < nats.lease_ttl() + SLACK, "after {:?}", killed.elapsed());
    payloads(50).await;
    house.instances.clear();
    // Of `sim` each owner begins a run; in the file each goes on where the one before was.
    let (mut newest, mut runs) = (HashMap::<String, u64>::new(), Vec::new());
    for id in ids(&house.broker).await {
        let Some((run, number)) = id.rsplit_once(':') else { continue };
        let run = match id.split(':').next() {
            Some("sim") => run,
            Some("file") => "file",
            _ => continue,
        };
        let number: u64 = number.parse().unwrap();
        let next = newest.get(run).map_or(0, |before| before + 1);
        assert_eq!(number, next, "{id}");
        newest.insert(run.to_owned(), number);
        if run != "file" && runs.last().is_none_or(|last| last != run) {
            assert!(!runs.iter().any(|known| known == run), "two at a time: {id} after {runs:?}");
            runs.push(run.to_owned());
        }
    }
    assert!(newest.contains_key("file") && !runs.is_empty());
}

/// The ids of everything that is stored.
async fn ids(broker: &JetStream) -> Vec<String> {
    let last = broker.state(Stream::Raw).await.unwrap().last_sequence;
    let mut reader = broker.reader(Stream::Raw, &[], Start::Sequence(1)).await.unwrap();
    let mut ids = Vec::new();
    loop {
        let message = reader.next().await.unwrap();
        ids.push(message.header(headers::MESSAGE_ID).unwrap().to_owned());
        if message.sequence == last {
            return ids;
        }
    }
}

/// What is stored: the subject and the number of each answer. Each is there once.
async fn numbers(broker: &JetStream) -> Vec<(String, u64)> {
    let last = broker.state(Stream::Raw).await.unwrap().last_sequence;
    let mut reader = broker.reader(Stream::Raw, &[], Start::Sequence(1)).await.unwrap();
    let (mut numbers, mut ids) = (Vec::new(), BTreeSet::new());
    loop {
        let message = reader.next().await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        let price = body["Global Quote"]["05. price"].as_str().unwrap();
        numbers.push((message.subject.clone(), price.parse().unwrap()));
        let id = message.header(headers::MESSAGE_ID).unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        if message.sequence == last {
            return numbers;
        }
    }
}

/// Every symbol was fetched; each payload is stored once, and behind those that were given before it.
async fn check(broker: &JetStream) {
    let mut newest = HashMap::<String, u64>::new();
    for (subject, number) in numbers(broker).await {
        let before = newest.insert(subject.clone(), number).unwrap_or(0);
        assert!(before < number, "{subject}: {number} is stored behind {before}");
    }
    assert_eq!(newest.len(), SYMBOLS);
}
