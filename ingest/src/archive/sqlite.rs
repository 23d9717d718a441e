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

use super::{Order, Place, RawRecord, RawStore, Selection, StoreError};

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
    retry_of     TEXT,
    retry_event  TEXT,
    subject      TEXT NOT NULL,
    raw_seq      INTEGER NOT NULL,
    body         BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS raw_ticks_by_symbol ON raw_ticks (source, symbol, received_at);
CREATE INDEX IF NOT EXISTS raw_ticks_by_time ON raw_ticks (received_at);
";

/// What older versions had not.
const ADDED: [&str; 2] = ["retry_of", "retry_event"];

const FILE: &str = "raw.db";

/// Rows of one INSERT: twelve parameters each, and SQLite allows 32,766.
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
            .filename(data_dir.join(FILE))
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
        add_columns(&pool).await.map_err(StoreError::sqlite)?;
        let pruning =
            max_age.map(|age| tokio::spawn(prune_for_ever(pool.clone(), age)).abort_handle());
        Ok(Self { pool, pruning })
    }

    /// Opens the `raw.db` that is there, to read it beside whoever writes.
    pub(super) async fn open_to_read(data_dir: &Path) -> Result<Self, StoreError> {
        let file = data_dir.join(FILE);
        if !file.exists() {
            return Err(StoreError::sqlite(format!("there is no {}", file.display())));
        }
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options);
        Ok(Self { pool: pool.await.map_err(StoreError::sqlite)?, pruning: None })
    }

    async fn insert(&self, records: &[RawRecord]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for records in records.chunks(ROWS_PER_INSERT) {
            let mut insert = QueryBuilder::<Sqlite>::new(
                "INSERT INTO raw_ticks (id, source, symbol, received_at, content_type, format, \
                 columns, retry_of, retry_event, subject, raw_seq, body) ",
            );
            insert.push_values(records, |mut row, record| {
                row.push_bind(record.id.as_str())
                    .push_bind(record.source.as_deref())
                    .push_bind(record.symbol.as_deref())
                    .push_bind(rfc3339_nanos(record.received_at))
                    .push_bind(record.content_type.as_deref())
                    .push_bind(record.format.as_deref())
                    .push_bind(record.columns.as_deref())
                    .push_bind(record.retry_of.as_deref())
                    .push_bind(record.retry_event.as_deref())
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

    async fn page(
        &self,
        selection: &Selection,
        order: Order,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<RawRecord>, StoreError> {
        let rows = select(selection, order, after, limit).build().fetch_all(&self.pool).await;
        let rows = rows.map_err(StoreError::sqlite)?;
        rows.iter().map(record).collect::<Result<_, _>>().map_err(StoreError::sqlite)
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

/// Brings the table of an older version to this one.
async fn add_columns(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let known = sqlx::query_scalar("SELECT name FROM pragma_table_info('raw_ticks')");
    let known: Vec<String> = known.fetch_all(pool).await?;
    for column in ADDED.into_iter().filter(|column| !known.iter().any(|name| name == column)) {
        let add = format!("ALTER TABLE raw_ticks ADD COLUMN {column} TEXT");
        sqlx::raw_sql(sqlx::AssertSqlSafe(add)).execute(pool).await?;
    }
    Ok(())
}

/// Either index gives the rows in the order of their times; only those of one time are sorted.
fn select(
    selection: &Selection,
    order: Order,
    after: Option<&Place>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let Selection { source, symbol, from, to } = selection;
    let mut select = QueryBuilder::new("SELECT * FROM raw_ticks WHERE TRUE");
    let conditions = [
        (" AND source = ", source.clone()),
        (" AND symbol = ", symbol.clone()),
        (" AND received_at >= ", from.map(rfc3339_nanos)),
        (" AND received_at < ", to.map(rfc3339_nanos)),
    ];
    for (condition, value) in conditions {
        if let Some(value) = value {
            select.push(condition).push_bind(value);
        }
    }
    let (behind, direction) = match order {
        Order::OldestFirst => (">", "ASC"),
        Order::NewestFirst => ("<", "DESC"),
    };
    if let Some(Place { received_at, id }) = after {
        select.push(format!(" AND (received_at, id) {behind} ("));
        select.push_bind(rfc3339_nanos(*received_at)).push(", ").push_bind(id.clone()).push(")");
    }
    let order = format!(" ORDER BY received_at {direction}, id {direction} LIMIT ");
    select.push(order).push_bind(i64::from(limit));
    select
}

fn record(row: &SqliteRow) -> Result<RawRecord, sqlx::Error> {
    let received_at: &str = row.try_get("received_at")?;
    // Who only reads the table of an older version finds it without these.
    let added = |column| match row.try_get(column) {
        Err(sqlx::Error::ColumnNotFound(_)) => Ok(None),
        found => found,
    };
    Ok(RawRecord {
        id: row.try_get("id")?,
        source: row.try_get("source")?,
        symbol: row.try_get("symbol")?,
        received_at: received_at.parse().map_err(|fault| sqlx::Error::Decode(Box::new(fault)))?,
        content_type: row.try_get("content_type")?,
        format: row.try_get("format")?,
        columns: row.try_get("columns")?,
        retry_of: added("retry_of")?,
        retry_event: added("retry_event")?,
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
mod tests;
