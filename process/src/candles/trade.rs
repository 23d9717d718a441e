//! What a candle needs of a tick.

use jiff::Timestamp;
use schemas::{Decimal, Flag, Print, Source, Symbol, TickKind};
use serde::Deserialize;

/// A tick of the kind `trade`.
#[derive(Debug, Clone)]
pub(super) struct Trade {
    pub(super) symbol: Symbol,
    pub(super) source: Source,
    pub(super) print: Print,
    /// Its sequence in `TICKS`.
    pub(super) seq: u64,
}

/// The fields of a tick that matter here; the others are not even read.
#[derive(Deserialize)]
struct Fields {
    symbol: Symbol,
    price: Decimal,
    size: Option<Decimal>,
    kind: TickKind,
    ts: Timestamp,
    source: Source,
    #[serde(default)]
    flags: Vec<Flag>,
}

impl Trade {
    /// Reads a message of `TICKS`; `None` where it is a quote or a bar, or flagged as of the future:
    /// the time of its symbol would go there with it, and all that follow would be too late.
    pub(super) fn read(body: &[u8], seq: u64) -> serde_json::Result<Option<Self>> {
        let Fields { symbol, price, size, kind, ts, source, flags } = serde_json::from_slice(body)?;
        let print = Print { ts, price, size };
        let counts = kind == TickKind::Trade && !flags.contains(&Flag::Future);
        Ok(counts.then_some(Self { symbol, source, print, seq }))
    }
}
