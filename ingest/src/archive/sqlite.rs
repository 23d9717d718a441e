//! The embedded store: an SQLite file beside the other data of the instance.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::rfc3339_nanos;
use sqlx::{
    QueryBuilder, Row, Sqlite, SqlitePool,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::{task::AbortHandle, time::interval};
use tracing::{debug, warn};

use super::{RawRecord, RawStore, StoreError};

/// The same names as in MongoDB. Times are RFC 3339 with nine digits, which sort as text.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS raw_ticks (
    id           TEXT NOT NULL PRIMARY KEY,
    source       TEXT,
    symbol       TEXT,
    received_at  TEXT NOT NULL,
    content_type TEXT,
    format       TEXT,
    columns      TEXT,
    subject      TEXT NOT NULL,
    raw_seq      INTEGER NOT NULL,
    body         BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS raw_ticks_by_symbol ON raw_ticks (source, symbol, received_at);
CREATE INDEX IF NOT EXISTS raw_ticks_by_time ON raw_ticks (received_at);
";

/// Rows of one INSERT: ten parameters each, and SQLite allows 32,766.
const ROWS_PER_INSERT: usize = 500;
/// Rows of one DELETE, so that pruning never holds up the writing for long.
const ROWS_PER_PRUNING: i64 = 2_000;
const PRUNING_INTERVAL: Duration = Duration::from_secs(60);

/// The raw store in `raw.db`.
pub(super) struct SqliteStore {
    pool: SqlitePool,
    pruning: Option<AbortHandle>,
}

impl SqliteStore {
    /// Opens `raw.db` in the data directory, and makes it where it is not there. Records older
    /// than `max_age` go, within a minute, for as long as the store is open.
    pub(super) async fn open(
        data_dir: &Path,
        max_age: Option<Duration>,
    ) -> Result<Self, StoreError> {
        std::fs::create_dir_all(data_dir).map_err(StoreError::sqlite)?;
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join("raw.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL would lose the newest commits of a machine that dies, acknowledged ones.
            .synchronous(SqliteSynchronous::Full);
        // SQLite has one writer at a time: with one connection the writing and the pruning take
        // turns in the pool's queue and never find the file locked.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(StoreError::sqlite)?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await.map_err(StoreError::sqlite)?;
        let pruning =
            max_age.map(|age| tokio::spawn(prune_for_ever(pool.clone(), age)).abort_handle());
        Ok(Self { pool, pruning })
    }

    async fn insert(&self, records: &[RawRecord]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for records in records.chunks(ROWS_PER_INSERT) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO raw_ticks (id, source, symbol, received_at, content_type, format, \
                 columns, subject, raw_seq, body) ",
            );
            insert.push_values(records, |mut row, record| {
                row.push_bind(record.id.as_str())
                    .push_bind(record.source.as_deref())
                    .push_bind(record.symbol.as_deref())
                    .push_bind(rfc3339_nanos(record.received_at))
                    .push_bind(record.content_type.as_deref())
                    .push_bind(record.format.as_deref())
                    .push_bind(record.columns.as_deref())
                    .push_bind(record.subject.as_str())
                    .push_bind(record.raw_seq.cast_signed())
                    .push_bind(&*record.body);
            });
            insert.push(" ON CONFLICT (id) DO NOTHING");
            // Batches come in every size: keeping each as a prepared statement would only cost.
            insert.build().persistent(false).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }
}

#[async_trait]
impl RawStore for SqliteStore {
    async fn store(&self, records: &[RawRecord]) -> Result<(), StoreError> {
        self.insert(records).await.map_err(StoreError::sqlite)
    }

    async fn get(&self, id: &str) -> Result<Option<RawRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM raw_ticks WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::sqlite)?;
        row.map(|row| record(&row)).transpose().map_err(StoreError::sqlite)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM raw_ticks")
            .fetch_one(&self.pool)
            .await
            .map(i64::cast_unsigned)
            .map_err(StoreError::sqlite)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if let Some(pruning) = &self.pruning {
            pruning.abort();
        }
    }
}

fn record(row: &SqliteRow) -> Result<RawRecord, sqlx::Error> {
    let received_at: &str = row.try_get("received_at")?;
    Ok(RawRecord {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        symbol: row.try_get("symbol")?,
        received_at: received_at.parse().map_err(|fault| sqlx::Error::Decode(Box::new(fault)))?,
        content_type: row.try_get("content_type")?,
        format: row.try_get("format")?,
        columns: row.try_get("columns")?,
        subject: row.try_get("subject")?,
        raw_seq: row.try_get::<i64, _>("raw_seq")?.cast_unsigned(),
        body: row.try_get::<Vec<u8>, _>("body")?.into(),
    })
}

async fn prune_for_ever(pool: SqlitePool, max_age: Duration) {
    let mut turns = interval(PRUNING_INTERVAL);
    loop {
        turns.tick().await;
        // The configuration allows 68 years at most, which every clock can go back.
        let Ok(oldest) = Timestamp::now().checked_sub(max_age) else { return };
        match prune(&pool, oldest).await {
            Ok(0) => {}
            Ok(records) => debug!(records, %oldest, "old records pruned from raw.db"),
            Err(error) => warn!(%error, "raw.db could not be pruned; trying again in a minute"),
        }
    }
}

/// Deletes what was received before `oldest`, and says how many records that were.
async fn prune(pool: &SqlitePool, oldest: Timestamp) -> Result<u64, sqlx::Error> {
    const DELETE: &str = "
DELETE FROM raw_ticks WHERE rowid IN (
    SELECT rowid FROM raw_ticks WHERE received_at < ? ORDER BY received_at LIMIT ?
)";
    let oldest = rfc3339_nanos(oldest);
    let mut pruned = 0;
    loop {
        let delete = sqlx::query(DELETE).bind(oldest.as_str()).bind(ROWS_PER_PRUNING);
        match delete.execute(pool).await?.rows_affected() {
            0 => return Ok(pruned),
            rows => pruned += rows,
        }
    }
}

#[cfg(test)]
mod tests {
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
        let at = |raw_seq, time: &str| RawRecord {
            received_at: time.parse().unwrap(),
            ..a_record(raw_seq)
        };
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
        std::fs::write(dir.0.join("raw.db"), "this is no database, however long it may be")
            .unwrap();
        let error = SqliteStore::open(&dir.0, None).await.err().unwrap();
        assert!(error.to_string().starts_with("the raw store raw.db fails: "), "{error}");
    }
}
