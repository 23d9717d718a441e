//! What a rule needs of a tick.

use jiff::Timestamp;
use schemas::{Decimal, Flag, Source, Symbol, TickKind};
use serde::Deserialize;

/// The fields of a tick that matter here; the others are not even read.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tick {
    pub(super) symbol: Symbol,
    pub(super) price: Decimal,
    size: Option<Decimal>,
    kind: TickKind,
    pub(super) ts: Timestamp,
    pub(super) source: Source,
    #[serde(default)]
    flags: Vec<Flag>,
    /// Its sequence in `TICKS`.
    #[serde(skip)]
    pub(super) seq: u64,
}

impl Tick {
    /// Reads a message of `TICKS`.
    pub(super) fn read(body: &[u8], seq: u64) -> serde_json::Result<Self> {
        Ok(Self { seq, ..serde_json::from_slice(body)? })
    }

    /// What it is flagged as being is nothing to wake somebody for: a price far from those before it
    /// (one that stays there is no outlier for long), one that comes late, or one of the future, after
    /// which all others would come late.
    pub(super) fn is_doubtful(&self) -> bool {
        let is_doubt =
            |flag: &Flag| matches!(flag, Flag::Outlier | Flag::OutOfOrder | Flag::Future);
        self.flags.iter().any(is_doubt)
    }

    /// What was traded; `None` where it is no trade or does not say.
    pub(super) fn traded(&self) -> Option<Decimal> {
        self.size.filter(|_| self.kind == TickKind::Trade)
    }
}
