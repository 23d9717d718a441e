//! Embedded SQLite: `lizards.db` in the data directory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use schemas::{Candle, CandleInterval, Symbol, calendar::Calendars};
use sqlx::{
    QueryBuilder, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Position, Span, StoreError, StoredTick, TickReader, TickWriter,
    candles::{self, TradeRow, Trades},
    migrations,
    row::{self, TickRow},
};

/// Rows of one INSERT: 13 parameters each, of the 32,766 that SQLite takes.
const ROWS: usize = 1_000;

/// How long a question waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("lizards.db")
}

/// The writing half: one connection, for SQLite has one writer at a time.
pub(super) struct Writer(SqlitePool);

impl Writer {
    pub(super) async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        tokio::fs::create_dir_all(data_dir).await.map_err(StoreError::opening)?;
        let options = SqliteConnectOptions::new()
            .filename(file(data_dir))
            .create_if_missing(true)
            // With a write-ahead log readers and the writer do not wait for each other.
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL would lose commits in a power failure, and what is committed is acknowledged:
            // nobody would deliver it again. FULL costs one sync a batch.
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(StoreError::opening)?;
        let mut connection = pool.acquire().await.map_err(StoreError::opening)?;
        migrations::run(&migrations::sqlite(), &mut *connection)
            .await
            .map_err(StoreError::opening)?;
        drop(connection);
        Ok(Self(pool))
    }
}

#[async_trait]
impl TickWriter for Writer {
    async fn write(&mut self, ticks: &[StoredTick]) -> Result<u64, StoreError> {
        let mut transaction = self.0.begin().await.map_err(StoreError::writing)?;
        let mut new = 0;
        for ticks in ticks.chunks(ROWS) {
            let done = insert(ticks).build().execute(&mut *transaction).await;
            new += done.map_err(StoreError::writing)?.rows_affected();
        }
        transaction.commit().await.map_err(StoreError::writing)?;
        Ok(new)
    }
}

fn insert(ticks: &[StoredTick]) -> QueryBuilder<Sqlite> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO ticks (id, symbol, ts_ns, seq, price, size, currency, exchange, kind, \
         source, raw_seq, received_at_ns, flags) ",
    );
    insert.push_values(ticks, |mut row, stored| {
        let (tick, position) = (stored.tick(), stored.position());
        row.push_bind(tick.id.clone())
            .push_bind(tick.symbol.to_string())
            .push_bind(position.ts_ns)
            .push_bind(position.seq)
            .push_bind(tick.price.to_string())
            .push_bind(tick.size.map(|size| size.to_string()))
            .push_bind(tick.currency.clone())
            .push_bind(tick.exchange.clone())
            .push_bind(tick.kind.as_str())
            .push_bind(tick.source.to_string())
            .push_bind(stored.raw_seq())
            .push_bind(stored.received_at_ns())
            .push_bind(row::flags(tick));
    });
    insert.push(" ON CONFLICT (id) DO NOTHING");
    insert
}

/// The reading half.
pub(super) struct Reader {
    pool: SqlitePool,
    calendars: Calendars,
}

impl Reader {
    pub(super) fn open(data_dir: &Path, connections: u32, calendars: Calendars) -> Self {
        let options = SqliteConnectOptions::new().filename(file(data_dir)).read_only(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Self { pool, calendars }
    }
}

#[async_trait]
impl TickReader for Reader {
    async fn ticks(
        &self,
        symbol: &Symbol,
        span: Span,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Vec<StoredTick>, StoreError> {
        let behind = span.behind(after);
        let rows: Vec<TickRow> = sqlx::query_as(
            "SELECT id, symbol, price, size, currency, exchange, kind, ts_ns, received_at_ns,
                    source, raw_seq, flags, seq
             FROM ticks
             WHERE symbol = ? AND (ts_ns, seq) > (?, ?) AND ts_ns < ?
             ORDER BY ts_ns, seq LIMIT ?",
        )
        .bind(symbol.as_str())
        .bind(behind.ts_ns)
        .bind(behind.seq)
        .bind(span.to_ns)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::reading)?;
        rows.into_iter().map(row::tick).collect()
    }

    async fn newest(&self, symbols: &[Symbol]) -> Result<Vec<StoredTick>, StoreError> {
        let asked = serde_json::to_string(symbols).map_err(StoreError::reading)?;
        let rows: Vec<TickRow> = sqlx::query_as(
            "SELECT ticks.id, symbol, price, size, currency, exchange, kind, ts_ns,
                    received_at_ns, source, raw_seq, flags, seq
             FROM json_each(?) AS asked JOIN ticks ON ticks.rowid = (
                 SELECT newest.rowid FROM ticks AS newest WHERE newest.symbol = asked.value
                 ORDER BY newest.ts_ns DESC, newest.seq DESC LIMIT 1)
             ORDER BY asked.key",
        )
        .bind(asked)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::reading)?;
        rows.into_iter().map(row::tick).collect()
    }

    async fn symbols(&self, query: &str, limit: u32) -> Result<Vec<Symbol>, StoreError> {
        // From one symbol to the next through the index, instead of past every tick.
        let symbols: Vec<String> = sqlx::query_scalar(
            "WITH RECURSIVE known (symbol) AS (
                 SELECT min(symbol) FROM ticks
                 UNION ALL
                 SELECT (SELECT min(symbol) FROM ticks WHERE ticks.symbol > known.symbol)
                 FROM known WHERE known.symbol IS NOT NULL)
             SELECT symbol FROM known
             WHERE symbol IS NOT NULL AND instr(lower(symbol), lower(?)) > 0
             ORDER BY symbol LIMIT ?",
        )
        .bind(query)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::reading)?;
        symbols.iter().map(|symbol| row::symbol(symbol)).collect()
    }

    async fn candles(
        &self,
        symbol: &Symbol,
        interval: CandleInterval,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Candle>, StoreError> {
        candles::read(self, &self.calendars, symbol, interval, span, limit).await
    }
}

#[async_trait]
impl Trades for Reader {
    async fn trades(
        &self,
        symbol: &Symbol,
        after: Position,
        to_ns: i64,
    ) -> Result<Vec<TradeRow>, StoreError> {
        sqlx::query_as(
            "SELECT ts_ns, seq, price, size, source FROM ticks
             WHERE symbol = ? AND (ts_ns, seq) > (?, ?) AND ts_ns < ? AND kind = 'trade'
             ORDER BY ts_ns, seq LIMIT ?",
        )
        .bind(symbol.as_str())
        .bind(after.ts_ns)
        .bind(after.seq)
        .bind(to_ns)
        .bind(candles::PAGE)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::reading)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{StoreConfig, conformance, open_reader, open_writer};
    use super::*;

    #[tokio::test]
    async fn it_keeps_what_every_store_has_to_keep() {
        let directory = tempfile::tempdir().unwrap();
        conformance::all(&StoreConfig::default(), &directory.path().join("made/by/it")).await;
    }

    #[tokio::test]
    async fn a_reader_may_come_first_and_sees_the_store_when_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let config = StoreConfig::default();
        let reader = open_reader(&config, directory.path(), Calendars::default()).await.unwrap();
        let fault = reader.symbols("", 1).await.unwrap_err();
        assert!(matches!(fault, StoreError::Unavailable { action: "read", .. }), "{fault}");
        open_writer(&config, directory.path()).await.unwrap();
        assert!(reader.symbols("", 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_reader_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let _writer = Writer::open(directory.path()).await.unwrap();
        let reader = Reader::open(directory.path(), 1, Calendars::default());
        for sql in ["DELETE FROM ticks", "DROP TABLE ticks", "CREATE TABLE mine (a INT)"] {
            let fault = sqlx::query(sql).execute(&reader.pool).await.unwrap_err().to_string();
            assert!(fault.contains("readonly"), "{sql}: {fault}");
        }
    }

    #[tokio::test]
    async fn what_is_committed_is_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let writer = Writer::open(directory.path()).await.unwrap();
        let pragma = |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&writer.0);
        assert_eq!(pragma("PRAGMA synchronous").await.unwrap(), 2, "FULL");
    }
}
