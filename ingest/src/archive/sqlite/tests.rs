//! The embedded store in files of its own.

use std::path::PathBuf;

use bytes::Bytes;

use super::*;

/// A directory that goes when it is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new(test: &str) -> Self {
        let name = format!("lizards-archive-{}-{test}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn a_record(raw_seq: u64) -> RawRecord {
    RawRecord {
        id: format!("sim:1:{raw_seq}"),
        source: Some("sim".into()),
        symbol: Some("BRK.B".into()),
        received_at: "2024-01-01T00:00:00.123456789Z".parse().unwrap(),
        content_type: Some("application/json".into()),
        format: Some("sim".into()),
        columns: None,
        retry_of: None,
        retry_event: None,
        subject: "ticks.raw.sim.BRK=2EB".into(),
        raw_seq,
        body: Bytes::from(format!("{{\"n\":{raw_seq}}}")),
    }
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_and_survives_reopening() {
    let dir = TempDir::new("back");
    let bytes: Vec<u8> = (0..=255).rev().collect();
    let odd = RawRecord {
        id: "odd ' id".into(),
        source: None,
        symbol: None,
        content_type: None,
        format: None,
        columns: Some("a,b".into()),
        retry_of: Some("odd".into()),
        retry_event: Some("7".into()),
        body: bytes.into(),
        ..a_record(1)
    };
    let empty = RawRecord { body: Bytes::new(), ..a_record(2) };
    let store = SqliteStore::open(&dir.0, None).await.unwrap();
    store.store(&[odd.clone(), empty.clone()]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&dir.0, None).await.unwrap();
    assert_eq!(store.get(&odd.id).await.unwrap(), Some(odd));
    assert_eq!(store.get(&empty.id).await.unwrap(), Some(empty));
    assert_eq!(store.get("sim:1:3").await.unwrap(), None);
}

#[tokio::test]
async fn writing_twice_is_harmless_and_the_first_stays() {
    let dir = TempDir::new("twice");
    let store = SqliteStore::open(&dir.0, None).await.unwrap();
    let batch: Vec<_> = (1..=1_000).map(a_record).collect();
    store.store(&batch).await.unwrap();
    let later = RawRecord { raw_seq: 9_999, body: "other".into(), ..a_record(1) };
    store.store(&[batch.clone(), vec![later, a_record(1_001)]].concat()).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 1_001);
    assert_eq!(store.get("sim:1:1").await.unwrap().as_ref(), batch.first());
    store.store(&[]).await.unwrap();
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_rest_stays() {
    let dir = TempDir::new("pruning");
    let store = SqliteStore::open(&dir.0, None).await.unwrap();
    let oldest: Timestamp = "2024-06-01T00:00:00Z".parse().unwrap();
    let at =
        |raw_seq, time: &str| RawRecord { received_at: time.parse().unwrap(), ..a_record(raw_seq) };
    let old: Vec<_> = (1..=2_500).map(a_record).collect();
    store.store(&old).await.unwrap();
    store
        .store(&[
            at(3_001, "2024-05-31T23:59:59.999999999Z"),
            at(3_002, "2024-06-01T00:00:00Z"),
            at(3_003, "2024-06-01T00:00:00.000000001Z"),
        ])
        .await
        .unwrap();
    assert_eq!(prune(&store.pool, oldest).await.unwrap(), 2_501);
    assert_eq!(store.count().await.unwrap(), 2);
    assert!(store.get("sim:1:3002").await.unwrap().is_some());
}

#[tokio::test]
async fn an_open_store_with_a_bound_prunes_by_itself() {
    let dir = TempDir::new("bound");
    let store = SqliteStore::open(&dir.0, None).await.unwrap();
    let new = RawRecord { received_at: Timestamp::now(), ..a_record(2) };
    store.store(&[a_record(1), new]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&dir.0, Some(Duration::from_secs(3_600))).await.unwrap();
    for _ in 0..200 {
        if store.count().await.unwrap() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.get("sim:1:1").await.unwrap().is_none());
    assert!(store.get("sim:1:2").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_says_which_and_why() {
    let dir = TempDir::new("wrong");
    std::fs::create_dir_all(&dir.0).unwrap();
    std::fs::write(dir.0.join("raw.db"), "this is no database, however long it may be").unwrap();
    let error = SqliteStore::open(&dir.0, None).await.err().unwrap();
    assert!(error.to_string().starts_with("the raw store raw.db fails: "), "{error}");
}
