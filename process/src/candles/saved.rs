//! What is saved of the candles that are running.

use jiff::Timestamp;
use schemas::{CandleUpdate, Source, Symbol};
use serde::{Deserialize, Serialize};

/// The key of the sequence in `CANDLES` from which on the closed candles are that still count.
pub(super) const POSITION: &str = "position";

/// The key of how far the time of those symbols had come that are forgotten, by their source.
pub(super) const FORGOTTEN: &str = "forgotten";

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

/// The key of a symbol.
pub(super) fn key(symbol: &Symbol) -> String {
    format!("{SYMBOL_PREFIX}{}", symbol.token())
}

/// The symbol of a key.
pub(super) fn symbol(key: &str) -> Option<Symbol> {
    Symbol::from_token(key.strip_prefix(SYMBOL_PREFIX)?).ok()
}
