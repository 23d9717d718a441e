//! What goes wrong with a store.

use std::time::Duration;

use super::candles::MAX_TRADES;

/// What goes wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration cannot be meant: it will not pass by itself.
    #[error("{key}: {fault}")]
    Config {
        /// The key as the user writes it.
        key: &'static str,
        /// What is wrong with its value.
        fault: String,
    },
    /// The store does not answer, or refuses: it may do so later.
    #[error("the store cannot be {action}: {fault}")]
    Unavailable {
        /// What was tried: `opened`, `written`, `read`.
        action: &'static str,
        /// What happened.
        fault: String,
    },
    /// A row that this program did not write.
    #[error("the stored tick {id:?} cannot be read: {fault}")]
    Corrupt {
        /// The id of the tick.
        id: String,
        /// What is wrong with it.
        fault: String,
    },
    /// More trades than one request for candles may read.
    #[error("more than {MAX_TRADES} trades lie in that range: ask for a shorter one")]
    TooManyTrades,
    /// A sum of sizes with more digits than can be kept.
    #[error("a volume in that range has more digits than can be kept exactly (28)")]
    VolumeTooPrecise,
}

impl StoreError {
    pub(super) fn opening(fault: impl ToString) -> Self {
        Self::Unavailable { action: "opened", fault: fault.to_string() }
    }

    pub(super) fn writing(fault: impl ToString) -> Self {
        Self::Unavailable { action: "written", fault: fault.to_string() }
    }

    /// A write that did not end in time.
    pub(crate) fn too_slow(limit: Duration) -> Self {
        Self::writing(format!("no answer within {} seconds", limit.as_secs()))
    }

    pub(super) fn reading(fault: impl ToString) -> Self {
        Self::Unavailable { action: "read", fault: fault.to_string() }
    }
}
