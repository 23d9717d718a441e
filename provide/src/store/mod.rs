//! The store of normalised ticks, in two halves that never share a connection: a [`TickWriter`]
//! for the one worker that writes, a [`TickReader`] for everybody who asks.
//!
//! Embedded SQLite is the default; PostgreSQL (cargo feature `postgres`) is the same traits with
//! a role for each half, of which the reading one can only SELECT.

mod candles;
mod config;
#[cfg(test)]
mod conformance;
mod error;
pub(crate) mod metrics;
mod migrations;
#[cfg(feature = "postgres")]
mod postgres;
mod row;
mod sqlite;
mod tick;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::{Candle, CandleInterval, Symbol, calendar::Calendars};

pub use config::StoreConfig;
pub use error::StoreError;
pub use tick::{Position, StoredTick, Unstorable};

use config::Backend;

/// The writing half.
#[async_trait]
pub trait TickWriter: Send {
    /// Writes a batch in one transaction and returns how many of its ticks are new. A tick whose
    /// id is stored already stays as it is, so writing twice is harmless.
    async fn write(&mut self, ticks: &[StoredTick]) -> Result<u64, StoreError>;
}

/// The reading half.
#[async_trait]
pub trait TickReader: Send + Sync + 'static {
    /// At most `limit` ticks of the symbol with an event time in `span`, by event time and then
    /// sequence, from behind `after` on.
    async fn ticks(
        &self,
        symbol: &Symbol,
        span: Span,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Vec<StoredTick>, StoreError>;

    /// The newest tick by event time of each of the symbols that has one, in the order asked for.
    async fn newest(&self, symbols: &[Symbol]) -> Result<Vec<StoredTick>, StoreError>;

    /// At most `limit` symbols that contain the text, whatever the case of its ASCII letters,
    /// sorted byte by byte.
    async fn symbols(&self, query: &str, limit: u32) -> Result<Vec<Symbol>, StoreError>;

    /// The first `limit` candles of the trades whose event time is in `span`, oldest first. A span
    /// of time without a trade has no candle.
    ///
    /// They are cut and added up as those of the stream `CANDLES` are; where a source's trades are
    /// of an exchange, a day is the exchange's.
    async fn candles(
        &self,
        symbol: &Symbol,
        interval: CandleInterval,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Candle>, StoreError>;
}

/// A span of event time. What lies outside of the years 1677 to 2262 is cut off there, because
/// the stores count nanoseconds in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first nanosecond since the epoch.
    pub(crate) from_ns: i64,
    /// The nanosecond behind its last.
    pub(crate) to_ns: i64,
}

impl Span {
    /// From `from` on until before `to`; `None` is without a bound.
    pub fn new(from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        let nanoseconds = |time: Timestamp| {
            i64::try_from(time.as_nanosecond()).unwrap_or(if time < Timestamp::UNIX_EPOCH {
                i64::MIN
            } else {
                i64::MAX
            })
        };
        Self {
            from_ns: from.map_or(i64::MIN, nanoseconds),
            to_ns: to.map_or(i64::MAX, nanoseconds),
        }
    }

    /// The position behind which the ticks of the span begin, or go on.
    fn behind(self, after: Option<Position>) -> Position {
        let begin = Position { ts_ns: self.from_ns, seq: i64::MIN };
        after.map_or(begin, |after| after.max(begin))
    }
}

/// Opens the writing half: creates the store where there is none, and brings it up to date.
pub async fn open_writer(
    config: &StoreConfig,
    data_dir: &Path,
) -> Result<Box<dyn TickWriter>, StoreError> {
    match config.backend()? {
        Backend::Sqlite => Ok(Box::new(sqlite::Writer::open(data_dir).await?)),
        #[cfg(feature = "postgres")]
        Backend::Postgres(roles) => Ok(Box::new(postgres::Writer::open(*roles).await?)),
    }
}

/// Opens the reading half. It connects when it is first asked, so a store that is down, or not
/// there yet, is an error of the question. `calendars` say which day a trade is of.
pub async fn open_reader(
    config: &StoreConfig,
    data_dir: &Path,
    calendars: Calendars,
) -> Result<Arc<dyn TickReader>, StoreError> {
    let connections = config.max_connections;
    match config.backend()? {
        Backend::Sqlite => Ok(Arc::new(sqlite::Reader::open(data_dir, connections, calendars))),
        #[cfg(feature = "postgres")]
        Backend::Postgres(roles) => {
            Ok(Arc::new(postgres::Reader::open(roles.reader, connections, calendars)))
        }
    }
}

/// Whether the reading half could write after all: its PostgreSQL role is a superuser, owns a
/// table of the store, or holds a privilege to change one or to create something beside them.
/// Embedded SQLite is opened read-only, which SQLite itself keeps.
pub async fn reader_can_write(config: &StoreConfig) -> Result<bool, StoreError> {
    match config.backend()? {
        Backend::Sqlite => Ok(false),
        #[cfg(feature = "postgres")]
        Backend::Postgres(roles) => postgres::can_write(roles.reader).await,
    }
}
