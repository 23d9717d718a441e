//! The raw archive: both stores keep one contract, and the worker waits for a store that is down.

use std::{path::Path, time::Duration};

use ::mongodb::{
    Client, Collection, IndexModel,
    bson::{self, Binary, Document, doc, spec::BinarySubtype},
};
use futures_util::TryStreamExt;
use ingest::archive::{
    ArchiveConfig, Order, Place, RawRecord, RawStore, Selection, open, open_to_read,
};
use jiff::Timestamp;
use nats::{
    Broker, Exclusivity, JetStream, NewMessage,
    topology::{Stream, StreamsConfig},
};
use schemas::{Format, RawTick, Source, Symbol, headers, subject};
use sqlx::Row;
use tempfile::TempDir;

use crate::{
    eventually::eventually,
    gate::Gate,
    lizards::{Installation, Registry},
    servers::{NatsServer, mongodb, mongodb::MongoDatabase},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn in_mongodb(server: &MongoDatabase) -> ArchiveConfig {
    ArchiveConfig {
        url: server.url.clone(),
        database: server.database.clone(),
        ..ArchiveConfig::default()
    }
}

async fn collection(server: &MongoDatabase) -> Collection<Document> {
    let client = Client::with_uri_str(&server.url).await.expect("the test's MongoDB runs");
    client.database(&server.database).collection("raw_ticks")
}

fn a_record(raw_seq: u64) -> RawRecord {
    RawRecord {
        id: format!("sim:1:{raw_seq}"),
        source: Some("sim".into()),
        symbol: Some("BRK.B".into()),
        received_at: Timestamp::now(),
        content_type: Some("application/json".into()),
        format: Some("sim".into()),
        columns: None,
        retry_of: None,
        retry_event: None,
        subject: "ticks.raw.sim.BRK=2EB".into(),
        raw_seq,
        body: format!("{{\"n\":{raw_seq}}}").into(),
    }
}

/// What every store does, by a configuration whose store is empty.
async fn keeps_the_contract(config: &ArchiveConfig, folder: &Path) {
    let store = open(config, folder).await.expect("an empty store opens");
    let batch: Vec<_> = (1..=1_000).map(a_record).collect();
    store.store(&batch).await.expect("a batch is stored");
    store.store(&batch).await.expect("writing twice is harmless");
    assert_eq!(store.count().await.expect("it counts"), 1_000);

    // A batch with something known, something double, and something new between them.
    let known = RawRecord { body: "another".into(), ..a_record(7) };
    let odd = RawRecord {
        id: "odd $id.\u{1F98E}".into(),
        source: None,
        symbol: None,
        received_at: "2024-01-01T00:00:00.123456789Z".parse().expect("a time"),
        content_type: None,
        format: None,
        columns: Some("ts_ms,symbol".into()),
        retry_of: Some("sim:1:3".into()),
        retry_event: Some("2".into()),
        raw_seq: i64::MAX.cast_unsigned(),
        body: (0..=255).rev().collect::<Vec<u8>>().into(),
        ..a_record(0)
    };
    let empty = RawRecord { body: "".into(), ..a_record(1_001) };
    let mixed = [known, odd.clone(), odd.clone(), empty.clone(), a_record(8)];
    store.store(&mixed).await.expect("duplicates are success");
    assert_eq!(store.count().await.expect("it counts"), 1_002);
    expect(&*store, &batch[6]).await;

    // What it says is durable is there after it is closed, and opening again changes nothing.
    drop(store);
    let store = open(config, folder).await.expect("it opens again");
    for record in [&odd, &empty, &batch[0], &batch[999]] {
        expect(&*store, record).await;
    }
    assert_eq!(store.get("nobody").await.expect("it answers"), None);
}

/// Whoever reads pages sees each record of a selection once, in order, and can do no harm.
async fn is_read_in_pages(config: &ArchiveConfig, folder: &Path) {
    let at = |nanosecond: i64| {
        Timestamp::new(1_700_000_000, 0)
            .map(|second| second + jiff::SignedDuration::from_nanos(nanosecond))
    };
    let at = |nanosecond| at(nanosecond).expect("a time");
    // Times that differ by less than a millisecond, or not at all, stored in another order.
    let mut records: Vec<_> = (0..60_u64)
        .map(|number| RawRecord {
            id: format!("page:{}:{number}", number % 7),
            source: (number % 5 > 0).then(|| format!("source-{}", number % 2)),
            symbol: (number % 3 > 0).then(|| "BRK.B".into()),
            received_at: at(i64::try_from(number / 4).expect("small")),
            ..a_record(number)
        })
        .collect();
    let store = open(config, folder).await.expect("it opens");
    for records in records.rchunks(7) {
        store.store(records).await.expect("it is stored");
    }
    drop(store);
    records.sort_by(|a, b| (a.received_at, &a.id).cmp(&(b.received_at, &b.id)));

    let store = open_to_read(config, folder).await.expect("it opens to be read");
    let symbol = Selection { symbol: Some("BRK.B".into()), ..Selection::default() };
    let source = Selection { source: Some("source-1".into()), ..Selection::default() };
    let times = Selection { from: Some(at(3)), to: Some(at(9)), ..Selection::default() };
    let all_of_it = Selection { source: source.source.clone(), ..symbol.clone() };
    let all_of_it = Selection { from: times.from, to: times.to, ..all_of_it };
    let nothing = Selection { to: Some(at(0)), ..Selection::default() };
    for selection in [Selection::default(), symbol, source, times, all_of_it, nothing] {
        let is_in = |record: &&RawRecord| {
            let Selection { source, symbol, from, to } = &selection;
            (source.is_none() || record.source == *source)
                && (symbol.is_none() || record.symbol == *symbol)
                && from.is_none_or(|from| record.received_at >= from)
                && to.is_none_or(|to| record.received_at < to)
        };
        let mut wanted: Vec<RawRecord> = records.iter().filter(is_in).cloned().collect();
        assert_eq!(all(&*store, &selection, Order::OldestFirst).await, wanted, "{selection:?}");
        wanted.reverse();
        assert_eq!(all(&*store, &selection, Order::NewestFirst).await, wanted, "{selection:?}");
    }
}

async fn all(store: &dyn RawStore, selection: &Selection, order: Order) -> Vec<RawRecord> {
    let (mut read, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(selection, order, after.as_ref(), 3).await.expect("it answers");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { return read };
        after = Some(Place::from(last));
        read.extend(page);
    }
}

async fn expect(store: &dyn RawStore, record: &RawRecord) {
    let found = store.get(&record.id).await.expect("it answers");
    assert_eq!(found.as_ref(), Some(record));
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = TempDir::new().expect("a folder");
    let nothing = open_to_read(&ArchiveConfig::default(), folder.path()).await;
    let fault = nothing.err().expect("reading makes no archive").to_string();
    assert!(fault.contains("there is no") && fault.contains("raw.db"), "{fault}");
    keeps_the_contract(&ArchiveConfig::default(), folder.path()).await;
    let folder = TempDir::new().expect("a folder");
    is_read_in_pages(&ArchiveConfig::default(), folder.path()).await;

    let file = format!("sqlite://{}?mode=ro", folder.path().join("raw.db").display());
    let archive = sqlx::SqlitePool::connect(&file).await.expect("the archive is a file");
    let columns = sqlx::query("SELECT name FROM pragma_index_info('raw_ticks_by_symbol')");
    let columns = columns.fetch_all(&archive).await.expect("the index is there");
    let columns: Vec<String> = columns.iter().map(|row| row.get("name")).collect();
    assert_eq!(columns, ["source", "symbol", "received_at"]);
}

#[tokio::test]
async fn what_an_older_version_has_archived_in_sqlite_is_read_too() {
    let folder = TempDir::new().expect("a folder");
    let config = ArchiveConfig::default();
    let new = RawRecord { retry_of: Some("sim:1:3".into()), ..a_record(1) };
    let store = open(&config, folder.path()).await.expect("it opens");
    store.store(std::slice::from_ref(&new)).await.expect("it is stored");
    drop(store);
    // As it was before there were these columns.
    let file = format!("sqlite://{}", folder.path().join("raw.db").display());
    let archive = sqlx::SqlitePool::connect(&file).await.expect("the archive is a file");
    for column in ["retry_of", "retry_event"] {
        let drop = format!("ALTER TABLE raw_ticks DROP COLUMN {column}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&archive).await.expect("it is dropped");
    }
    archive.close().await;
    let old = RawRecord { retry_of: None, ..new };
    let reader = open_to_read(&config, folder.path()).await.expect("it opens to be read");
    let everything = Selection::default();
    let read = all(&*reader, &everything, Order::OldestFirst).await;
    assert_eq!(read, std::slice::from_ref(&old));
    drop(reader);
    let store = open(&config, folder.path()).await.expect("it opens");
    let newer = RawRecord { retry_event: Some("2".into()), ..a_record(2) };
    store.store(std::slice::from_ref(&newer)).await.expect("it is stored");
    assert_eq!(all(&*store, &everything, Order::OldestFirst).await, [old, newer]);
}

#[tokio::test]
async fn what_an_older_version_has_archived_in_mongodb_is_listed_too() {
    let server = mongodb().await;
    let records: Vec<_> = (1..=3).map(a_record).collect();
    let store = open(&in_mongodb(&server), Path::new("")).await.expect("it opens");
    store.store(&records).await.expect("it is stored");
    drop(store);
    let old = doc! { "$unset": { "place": "", "retry_of": "", "retry_event": "" } };
    for id in ["sim:1:1", "sim:1:2"] {
        let changed = collection(&server).await.update_one(doc! { "_id": id }, old.clone()).await;
        assert_eq!(changed.expect("it answers").modified_count, 1);
    }
    let store = open(&in_mongodb(&server), Path::new("")).await.expect("it opens");
    eventually(PATIENCE, "all are listed", async || {
        let listed = all(&*store, &Selection::default(), Order::OldestFirst).await;
        (listed == records).then_some(())
    })
    .await;
}

#[tokio::test]
async fn mongodb_keeps_the_contract() {
    let server = mongodb().await;
    keeps_the_contract(&in_mongodb(&server), Path::new("")).await;

    let keys: Vec<_> = indexes(&server).await.into_iter().map(|index| index.keys).collect();
    for index in [doc! { "source": 1, "symbol": 1, "place": 1 }, doc! { "place": 1 }] {
        assert!(keys.contains(&index), "{keys:?}");
    }
    is_read_in_pages(&in_mongodb(&mongodb().await), Path::new("")).await;
}

async fn indexes(server: &MongoDatabase) -> Vec<IndexModel> {
    let indexes = collection(server).await.list_indexes().await.expect("there are indexes");
    indexes.try_collect().await.expect("they are listed")
}

#[tokio::test]
async fn a_document_of_mongodb_is_what_the_documentation_says() {
    let server = mongodb().await;
    let store = open(&in_mongodb(&server), Path::new("")).await.expect("it opens");
    let received_at = "2024-01-01T00:00:00.123456789Z".parse().expect("a time");
    let record = RawRecord { received_at, symbol: None, ..a_record(5_000_000_000) };
    store.store(&[record]).await.expect("it is stored");
    let found = collection(&server).await.find_one(doc! { "_id": "sim:1:5000000000" }).await;
    let documented = doc! {
        "_id": "sim:1:5000000000",
        "source": "sim",
        "symbol": null,
        "received_at": bson::DateTime::from_millis(1_704_067_200_123),
        "received_at_rfc3339": "2024-01-01T00:00:00.123456789Z",
        "place": "20240101T000000.123456789Z sim:1:5000000000",
        "content_type": "application/json",
        "format": "sim",
        "columns": null,
        "retry_of": null,
        "retry_event": null,
        "subject": "ticks.raw.sim.BRK=2EB",
        "raw_seq": 5_000_000_000_i64,
        "body": Binary { subtype: BinarySubtype::Generic, bytes: b"{\"n\":5000000000}".into() },
    };
    assert_eq!(found.expect("it answers"), Some(documented));
}

/// The age in the TTL index.
async fn expiry(server: &MongoDatabase) -> Option<u64> {
    let by_time = doc! { "received_at": 1 };
    let index = indexes(server).await.into_iter().find(|index| index.keys == by_time)?;
    Some(index.options?.expire_after?.as_secs())
}

#[tokio::test]
async fn mongodb_forgets_what_the_configuration_says() {
    let server = mongodb().await;
    let open_with = async |max_age_hours| {
        let config = ArchiveConfig { max_age_hours, ..in_mongodb(&server) };
        drop(open(&config, Path::new("")).await.expect("it opens"));
    };
    open_with(0).await;
    assert_eq!(expiry(&server).await, None);
    open_with(2).await;
    assert_eq!(expiry(&server).await, Some(7_200));
    open_with(3).await;
    // The stand-in says that it has changed the index, and has not.
    if !server.is_stand_in() {
        assert_eq!(expiry(&server).await, Some(10_800));
    }
    open_with(0).await;
    assert_eq!(expiry(&server).await, None);
}

fn raw(number: u64) -> RawTick {
    RawTick {
        id: format!("test:{number}"),
        source: Source::new("sim").expect("a source"),
        symbol: Some(Symbol::new("BRK.B").expect("a symbol")),
        received_at: Timestamp::now(),
        content_type: "application/octet-stream".into(),
        format: Format::Sim,
        columns: None,
        body: vec![0xFF, u8::try_from(number % 256).expect("a byte")].into(),
    }
}

/// Publishes so many payloads, and one without an envelope after them.
async fn publish(broker: &dyn Broker, payloads: u64) {
    let publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await;
    let mut publisher = publisher.expect("the stream is there");
    for number in 1..=payloads {
        let raw = raw(number);
        let subject = subject::raw(&raw.source, raw.symbol.as_ref());
        let message = NewMessage { subject, headers: raw.headers(), body: raw.body };
        publisher.send(message).await.expect("NATS takes it");
    }
    let bare = NewMessage {
        subject: "ticks.raw.stranger._".into(),
        headers: vec![(headers::RECEIVED_AT, "noon".into())],
        body: b"\xFEhello"[..].into(),
    };
    publisher.send(bare).await.expect("NATS takes it");
    while publisher.in_flight() > 0 {
        publisher.confirmed().await.expect("NATS stores it");
    }
}

/// What `/health/ready` says of the archive.
async fn health(ingest: &str) -> Option<String> {
    crate::servers::install_crypto();
    let answer = reqwest::get(format!("http://{ingest}/health/ready")).await.ok()?;
    let checks: serde_json::Value = answer.json().await.ok()?;
    Some(checks.get("archive")?.as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_waited_for_and_nothing_is_lost() {
    const PAYLOADS: u64 = 2_500;
    let (nats, server) = (NatsServer::start().await, mongodb().await);
    let mut gate = Gate::shut_to(&server.url).await;

    let mut installation = Installation::at(&nats.url());
    installation.set("ingest.sources", "");
    installation.set("ingest.archive.url", gate.url());
    installation.set("ingest.archive.database", &server.database);
    let mut ingest = installation.role("ingest");
    let registry = Registry::at(&nats.url()).await;
    let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
    broker.declare().await.expect("the test's NATS has streams");
    publish(&broker, PAYLOADS).await;

    let at = registry.address("ingest").await;
    eventually(PATIENCE, "the health check names the store", async || {
        health(&at).await.filter(|why| why.contains("MongoDB fails")).map(drop)
    })
    .await;
    gate.open().await;

    // What a killed process had stored and not acknowledged is delivered again.
    let store = open(&in_mongodb(&server), Path::new("")).await.expect("it opens");
    eventually(PATIENCE, "it archives", async || {
        store.count().await.ok().filter(|count| *count > 0).map(drop)
    })
    .await;
    ingest.kill().await;
    ingest.start_again().await;
    eventually(PATIENCE, "every message is archived", async || {
        store.count().await.ok().filter(|count| *count > PAYLOADS).map(drop)
    })
    .await;

    assert_eq!(store.count().await.expect("it counts"), PAYLOADS + 1);
    for number in 1..=PAYLOADS {
        let found = store.get(&format!("test:{number}")).await.expect("it answers");
        let found = found.expect("it is there");
        assert_eq!((found.raw_seq, found.body), (number, raw(number).body));
        assert_eq!(found.symbol.as_deref(), Some("BRK.B"));
    }
    let bare = store.get(&format!("TICKS_RAW:{}", PAYLOADS + 1)).await.expect("it answers");
    let bare = bare.expect("a message without an envelope is archived all the same");
    assert_eq!((&bare.body[..], bare.source), (&b"\xFEhello"[..], None));
}
