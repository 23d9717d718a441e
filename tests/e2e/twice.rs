//! What two instances of ingest fetch at the same time, because one of them is cut off from NATS and
//! the other has taken over, is published by both and makes one tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Path, routing::get};
use jiff::Timestamp;
use nats::{
    Broker, JetStream, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::{Tick, headers};
use tokio::time::timeout;

use crate::{
    eventually::eventually,
    gate::Gate,
    live::serve,
    lizards::{Installation, Registry},
    servers::{NatsServer, install_crypto},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// How often a symbol is asked for; what is fetched in such a time has one id.
const INTERVAL_SECS: i64 = 4;

/// A stream that has nothing more for so long has given all.
const QUIET: Duration = Duration::from_secs(2);

/// When the first bar began.
const FIRST_BAR: i64 = 1_700_000_040;

/// Charts like Yahoo's of three bars each, one bar further every other interval. Those of `CUT` begin
/// one bar later for every other request.
fn chart(symbol: &str, request: u64) -> String {
    let newest = Timestamp::now().as_second().div_euclid(2 * INTERVAL_SECS) % 100_000;
    let first = newest - i64::from(symbol == "CUT" && request % 2 == 1);
    let times: Vec<_> = (first..first + 3).map(|bar| FIRST_BAR + bar * 60).collect();
    let closes: Vec<_> = (first..first + 3).map(|bar| bar + 1).collect();
    format!(
        r#"{{"chart":{{"result":[{{"meta":{{"symbol":"{symbol}","currency":"USD","dataGranularity":"1m"}},"timestamp":{times:?},"indicators":{{"quote":[{{"close":{closes:?}}}]}}}}],"error":null}}}}"#
    )
}

/// A counter of an instance.
async fn counted(at: &str, metric: &str) -> Option<u64> {
    let metrics = reqwest::get(format!("http://{at}/metrics")).await.ok()?.text().await.ok()?;
    let line = format!("{metric}{{kind=\"yahoo\"}} ");
    metrics.lines().find_map(|told| told.strip_prefix(&line))?.parse().ok()
}

/// Everything that a stream has, until it has nothing more for a while.
async fn all(broker: &JetStream, stream: Stream) -> Vec<nats::Message> {
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await.unwrap();
    let mut messages = Vec::new();
    while let Ok(next) = timeout(QUIET, reader.next()).await {
        messages.push(next.unwrap());
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_instances_have_fetched_and_published_is_one_tick() {
    install_crypto();
    let requests = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&requests);
    let answer = async move |Path(symbol): Path<String>| {
        let request = counting.fetch_add(1, Ordering::SeqCst);
        ([("content-type", "application/json")], chart(&symbol, request))
    };
    let (nats, provider) =
        (NatsServer::start().await, serve(Router::new().route("/{symbol}", get(answer))).await);
    let mut gate = Gate::open_to(&nats.url()).await;
    let mut installation = Installation::at(gate.url());
    installation.set("ingest.sources", "yahoo");
    installation.set("ingest.yahoo.url", format!("http://{provider}"));
    installation.set("ingest.yahoo.symbols", "IBM,CUT");
    installation.set("ingest.yahoo.interval_secs", INTERVAL_SECS);
    installation.set("ingest.yahoo.requests_per_minute", 0);
    installation.set("service.instance", "a");
    let mut ingests = vec![installation.role("ingest")];
    let registry = Registry::at(&nats.url()).await;
    let a = registry.address("ingest").await;
    let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
    let published = async |at: &str, wanted: u64| {
        eventually(PATIENCE, &format!("{at} has published {wanted}"), async || {
            (counted(at, "lizards_ingest_published_total").await? >= wanted).then_some(())
        })
        .await;
    };
    published(&a, 2).await;

    println!("a is cut off, and b takes over");
    gate.shut().await;
    eventually(PATIENCE, "a is gone", async || {
        registry.instances("ingest").is_empty().then_some(())
    })
    .await;
    installation.set("nats.url", nats.url());
    installation.set("service.instance", "b");
    ingests.push(installation.role("ingest"));
    let _process = installation.role("process");
    let b = registry.address("ingest").await;
    // So long that both have fetched several charts that are new.
    published(&b, 6).await;
    gate.open().await;
    eventually(PATIENCE, "a publishes what b has published", async || {
        (counted(&a, "lizards_ingest_duplicates_total").await? >= 1).then_some(())
    })
    .await;
    eventually(PATIENCE, "a has published everything", async || {
        (counted(&a, "lizards_ingest_spool_bytes").await? == 0).then_some(())
    })
    .await;
    drop((ingests, registry));

    let raw = all(&broker, Stream::Raw).await;
    let ids: BTreeSet<_> = raw.iter().filter_map(|m| m.header(headers::MESSAGE_ID)).collect();
    assert_eq!(ids.len(), raw.len(), "each payload is stored once");
    // Every bar that any of them has, and no other, is one tick.
    let wanted: BTreeSet<(String, i64)> = raw.iter().flat_map(bars).collect();
    let found = eventually(PATIENCE, "everything is processed", async || {
        let mut found = BTreeMap::new();
        for message in all(&broker, Stream::Ticks).await {
            let tick: Tick = serde_json::from_slice(&message.body).ok()?;
            *found.entry((tick.symbol.to_string(), tick.ts.as_second())).or_insert(0) += 1;
        }
        wanted.iter().all(|bar| found.contains_key(bar)).then_some(found)
    })
    .await;
    let doubles: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubles.is_empty(), "{doubles:?}");
    // The same bars came in payloads that begin with different ones.
    let starts: BTreeSet<_> =
        raw.iter().filter_map(|message| bars(message).into_iter().next()).collect();
    assert!(starts.iter().filter(|(symbol, _)| symbol == "CUT").count() > 1);
}

/// The symbol and the times of the bars of a payload.
fn bars(message: &nats::Message) -> Vec<(String, i64)> {
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    let result = &body["chart"]["result"][0];
    let symbol = result["meta"]["symbol"].as_str().unwrap();
    let times = result["timestamp"].as_array().unwrap().iter();
    times.map(|time| (symbol.to_owned(), time.as_i64().unwrap())).collect()
}
