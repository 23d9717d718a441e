//! PostgreSQL: the writer's role owns the table, the reader's role can only SELECT from it.
//!
//! Prices and sizes cross as text and are cast by the server: its NUMERIC keeps every digit, while
//! the binary form drops the decimal places of a zero.

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use schemas::{Candle, CandleInterval, Symbol, calendar::Calendars};
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;
use tracing::warn;

use super::{
    Position, Span, StoreError, StoredTick, TickReader, TickWriter,
    candles::{self, TradeRow, Trades},
    config::Roles,
    migrations,
    row::{self, TickRow},
};

/// How long a question waits for a connection, free or new.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The writing half: one connection, given up at its first error and made anew.
pub(super) struct Writer {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Writer {
    pub(super) async fn open(roles: Roles) -> Result<Self, StoreError> {
        let mut connection = connect(&roles.writer).await.map_err(StoreError::opening)?;
        migrations::run(&migrations::postgres(), &mut connection)
            .await
            .map_err(StoreError::opening)?;
        let reader = roles.reader.get_username();
        if reader == roles.writer.get_username() {
            warn!(role = reader, "the role that reads the store is the one that writes it");
        } else {
            grant_select(&mut connection, reader).await.map_err(StoreError::opening)?;
        }
        Ok(Self { options: roles.writer, connection: Some(connection) })
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Box<dyn Error + Send + Sync>> {
    Ok(timeout(CONNECT_TIMEOUT, options.connect()).await??)
}

/// Lets the role read the ticks and do nothing else with them.
async fn grant_select(connection: &mut PgConnection, role: &str) -> sqlx::Result<()> {
    // A role cannot be a parameter; quoted like this, every name is one identifier.
    let role = role.replace('"', "\"\"");
    let grant = format!(
        r#"REVOKE ALL ON ticks, _sqlx_migrations FROM "{role}"; GRANT SELECT ON ticks TO "{role}""#
    );
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(connection).await.map(drop)
}

#[async_trait]
impl TickWriter for Writer {
    async fn write(&mut self, ticks: &[StoredTick]) -> Result<u64, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options).await.map_err(StoreError::writing)?,
        };
        let new = insert(&mut connection, ticks).await.map_err(StoreError::writing)?;
        self.connection = Some(connection);
        Ok(new)
    }
}

async fn insert(connection: &mut PgConnection, ticks: &[StoredTick]) -> sqlx::Result<u64> {
    let column = |of: fn(&StoredTick) -> String| ticks.iter().map(of).collect::<Vec<_>>();
    let optional = |of: fn(&StoredTick) -> Option<String>| ticks.iter().map(of).collect::<Vec<_>>();
    let number = |of: fn(&StoredTick) -> i64| ticks.iter().map(of).collect::<Vec<_>>();
    // One statement is one transaction.
    sqlx::query(
        "INSERT INTO ticks (id, symbol, ts_ns, seq, price, size, currency, exchange, kind,
                                source, raw_seq, received_at_ns, flags)
             SELECT id, symbol, ts_ns, seq, price::numeric, size::numeric, currency, exchange,
                    kind, source, raw_seq, received_at_ns, flags
             FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[],
                         $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                         $11::bigint[], $12::bigint[], $13::text[])
                  AS new (id, symbol, ts_ns, seq, price, size, currency, exchange, kind, source,
                          raw_seq, received_at_ns, flags)
             ON CONFLICT (id) DO NOTHING",
    )
    .bind(column(|stored| stored.tick().id.clone()))
    .bind(column(|stored| stored.tick().symbol.to_string()))
    .bind(number(|stored| stored.position().ts_ns))
    .bind(number(|stored| stored.position().seq))
    .bind(column(|stored| stored.tick().price.to_string()))
    .bind(optional(|stored| stored.tick().size.map(|size| size.to_string())))
    .bind(column(|stored| stored.tick().currency.clone()))
    .bind(optional(|stored| stored.tick().exchange.clone()))
    .bind(column(|stored| stored.tick().kind.as_str().to_owned()))
    .bind(column(|stored| stored.tick().source.to_string()))
    .bind(number(StoredTick::raw_seq))
    .bind(number(StoredTick::received_at_ns))
    .bind(optional(|stored| row::flags(stored.tick())))
    .execute(connection)
    .await
    .map(|done| done.rows_affected())
}

/// The reading half.
pub(super) struct Reader {
    pool: PgPool,
    calendars: Calendars,
}

impl Reader {
    pub(super) fn open(options: PgConnectOptions, connections: u32, calendars: Calendars) -> Self {
        let pool = PgPoolOptions::new()
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
            "SELECT id, symbol, price::text, size::text, currency, exchange, kind, ts_ns,
                    received_at_ns, source, raw_seq, flags, seq
             FROM ticks
             WHERE symbol = $1 AND (ts_ns, seq) > ($2, $3) AND ts_ns < $4
             ORDER BY ts_ns, seq LIMIT $5",
        )
        .bind(symbol.as_str())
        .bind(behind.ts_ns)
        .bind(behind.seq)
        .bind(span.to_ns)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::reading)?;
        rows.into_iter().map(row::tick).collect()
    }

    async fn newest(&self, symbols: &[Symbol]) -> Result<Vec<StoredTick>, StoreError> {
        let asked: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
        let rows: Vec<TickRow> = sqlx::query_as(
            "SELECT newest.id, newest.symbol, newest.price::text, newest.size::text,
                    newest.currency, newest.exchange, newest.kind, newest.ts_ns,
                    newest.received_at_ns, newest.source, newest.raw_seq, newest.flags,
                    newest.seq
             FROM UNNEST($1::text[]) WITH ORDINALITY AS asked (symbol, place),
                  LATERAL (SELECT * FROM ticks WHERE ticks.symbol = asked.symbol
                           ORDER BY ts_ns DESC, seq DESC LIMIT 1) AS newest
             ORDER BY asked.place",
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
            r#"WITH RECURSIVE known (symbol) AS (
                   SELECT min(symbol) FROM ticks
                   UNION ALL
                   SELECT (SELECT min(ticks.symbol) FROM ticks WHERE ticks.symbol > known.symbol)
                   FROM known WHERE known.symbol IS NOT NULL)
               SELECT symbol FROM known
               WHERE symbol IS NOT NULL AND strpos(lower(symbol), lower($1 COLLATE "C")) > 0
               ORDER BY symbol LIMIT $2"#,
        )
        .bind(query)
        .bind(i64::from(limit))
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
            "SELECT ts_ns, seq, price::text, size::text, source FROM ticks
             WHERE symbol = $1 AND (ts_ns, seq) > ($2, $3) AND ts_ns < $4 AND kind = 'trade'
             ORDER BY ts_ns, seq LIMIT $5",
        )
        .bind(symbol.as_str())
        .bind(after.ts_ns)
        .bind(after.seq)
        .bind(to_ns)
        .bind(i64::from(candles::PAGE))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::reading)
    }
}

/// Whether the role could change a table of the store, or create something beside them, by any
/// privilege of its own, of a role it is a member of, or of PUBLIC.
pub(super) async fn can_write(reader: PgConnectOptions) -> Result<bool, StoreError> {
    let mut connection = connect(&reader).await.map_err(StoreError::opening)?;
    sqlx::query_scalar(
        "SELECT role.rolsuper
             OR has_schema_privilege(current_schema(), 'CREATE')
             OR has_database_privilege(current_database(), 'CREATE')
             OR EXISTS (
                 SELECT FROM pg_class
                 WHERE relname IN ('ticks', '_sqlx_migrations') AND pg_table_is_visible(oid)
                     AND (pg_has_role(relowner, 'MEMBER')
                         OR has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
                         OR has_any_column_privilege(oid, 'INSERT, UPDATE')))
         FROM pg_roles AS role WHERE role.rolname = current_user",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(StoreError::reading)
}
