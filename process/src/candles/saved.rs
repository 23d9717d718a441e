//! What is saved of the candles that are running, and where.

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use nats::Bucket;
use schemas::{CandleUpdate, Source, Symbol};
use serde::{Deserialize, Serialize};

/// The key of the sequence in `CANDLES` from which on the closed candles are that still count.
pub(super) const POSITION: &str = "position";

/// The key of a symbol is this and its token.
const SYMBOL_PREFIX: &str = "symbol.";

/// What is saved of a symbol: with its closed candles in `CANDLES` and the ticks after it, that is
/// all there is to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// How far its event time had come.
    pub(super) clock: Timestamp,
    /// The source of its newest trade.
    pub(super) source: Option<Source>,
    /// The candles that are running.
    pub(super) running: Vec<CandleUpdate>,
}

/// A symbol as it was saved.
pub(super) struct Saved {
    pub(super) symbol: Symbol,
    pub(super) snapshot: Snapshot,
    /// The revision of its key.
    pub(super) revision: u64,
}

/// Why something could not be loaded or saved.
pub(super) type StoreFault = Box<dyn Error + Send + Sync>;

/// Where it is saved.
#[async_trait]
pub(super) trait Store: Send + Sync {
    /// Every key that has a value, with it and its revision.
    async fn load(&self) -> Result<Vec<(String, Bytes, u64)>, StoreFault>;

    /// Sets a key that is still at this revision, or has no value where there is none. `None`
    /// where that is not so; otherwise its new revision.
    async fn save(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, StoreFault>;
}

#[async_trait]
impl Store for Bucket {
    async fn load(&self) -> Result<Vec<(String, Bytes, u64)>, StoreFault> {
        Ok(self.entries().await?)
    }

    async fn save(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, StoreFault> {
        Ok(match revision {
            Some(revision) => self.update(key, value, revision).await?,
            None => self.create(key, value).await?,
        })
    }
}

/// The key of a symbol.
pub(super) fn key(symbol: &Symbol) -> String {
    format!("{SYMBOL_PREFIX}{}", symbol.token())
}

/// The symbol of a key.
pub(super) fn symbol(key: &str) -> Option<Symbol> {
    Symbol::from_token(key.strip_prefix(SYMBOL_PREFIX)?).ok()
}
