//! A row of the table `ticks`, the same in every store.

use jiff::Timestamp;
use schemas::{Decimal, Flag, Source, Symbol, Tick, TickKind};

use super::{StoreError, StoredTick};

/// id, symbol, price, size, currency, exchange, kind, ts_ns, received_at_ns, source, raw_seq,
/// flags, seq.
pub(super) type TickRow = (
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    String,
    i64,
    i64,
    String,
    i64,
    Option<String>,
    i64,
);

/// Reads a row back into the tick it was written from.
pub(super) fn tick(row: TickRow) -> Result<StoredTick, StoreError> {
    let id = row.0.clone();
    read(row).map_err(|fault| StoreError::Corrupt { id, fault: fault.to_string() })
}

/// Reads a symbol back.
pub(super) fn symbol(text: &str) -> Result<Symbol, StoreError> {
    Symbol::new(text)
        .map_err(|fault| StoreError::Corrupt { id: text.to_owned(), fault: fault.to_string() })
}

fn read(row: TickRow) -> Result<StoredTick, Box<dyn std::error::Error>> {
    #[rustfmt::skip] // one line, as in TickRow
    let (
        id, symbol, price, size, currency, exchange, kind, ts, received_at, source, raw_seq, flags, seq,
    ) = row;
    let tick = Tick {
        id,
        symbol: Symbol::new(&symbol)?,
        price: Decimal::parse(&price)?,
        size: size.as_deref().map(Decimal::parse).transpose()?,
        currency,
        exchange,
        kind: self::kind(&kind)?,
        ts: Timestamp::from_nanosecond(i128::from(ts))?,
        received_at: Timestamp::from_nanosecond(i128::from(received_at))?,
        source: Source::new(&source)?,
        raw_seq: u64::try_from(raw_seq)?,
        flags: flags.as_deref().map_or(Ok(Vec::new()), read_flags)?,
    };
    Ok(StoredTick::new(tick, u64::try_from(seq)?)?)
}

/// The flags of a tick as they are stored: their names with commas between them.
pub(super) fn flags(tick: &Tick) -> Option<String> {
    let names: Vec<_> = tick.flags.iter().map(|flag| flag.as_str()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn read_flags(names: &str) -> Result<Vec<Flag>, String> {
    let flag =
        |name| Flag::from_name(name).ok_or_else(|| format!("{name:?} is not a flag of a tick"));
    names.split(',').map(flag).collect()
}

fn kind(text: &str) -> Result<TickKind, String> {
    [TickKind::Trade, TickKind::Quote, TickKind::Bar]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| format!("{text:?} is not a kind of tick"))
}
