//! A tick as the stores keep it.

use jiff::Timestamp;
use schemas::Tick;
use validator::Validate;

/// A tick and its sequence in `TICKS`, checked to fit every store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTick {
    tick: Tick,
    seq: u64,
}

/// Why a tick cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// A field without the shape of a tick.
    #[error("{0}")]
    Shape(String),
    /// A time that nanoseconds in 64 bits do not reach.
    #[error("{field} is {time}, outside of the years 1677 to 2262")]
    Time {
        /// Which time.
        field: &'static str,
        /// Its value.
        time: Timestamp,
    },
    /// A sequence beyond 63 bits.
    #[error("{0} is larger than a store can count")]
    Sequence(&'static str),
    /// A NUL character, which PostgreSQL cannot keep in a text.
    #[error("{0} holds a NUL character")]
    Nul(&'static str),
}

/// The place of a tick among those of its symbol: event time, then sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Nanoseconds since the epoch.
    pub(crate) ts_ns: i64,
    /// The sequence in `TICKS`.
    pub(crate) seq: i64,
}

impl StoredTick {
    /// Checks that every store can keep the tick, so that no batch fails for one of its ticks.
    pub fn new(tick: Tick, seq: u64) -> Result<Self, Unstorable> {
        tick.validate()
            .map_err(|faults| Unstorable::Shape(faults.to_string().replace('\n', "; ")))?;
        for (field, time) in [("ts", tick.ts), ("received_at", tick.received_at)] {
            if i64::try_from(time.as_nanosecond()).is_err() {
                return Err(Unstorable::Time { field, time });
            }
        }
        for (field, number) in [("seq", seq), ("raw_seq", tick.raw_seq)] {
            if i64::try_from(number).is_err() {
                return Err(Unstorable::Sequence(field));
            }
        }
        let exchange = tick.exchange.as_deref().unwrap_or_default();
        for (field, text) in
            [("id", tick.id.as_str()), ("currency", &tick.currency), ("exchange", exchange)]
        {
            if text.contains('\0') {
                return Err(Unstorable::Nul(field));
            }
        }
        Ok(Self { tick, seq })
    }

    /// The tick.
    pub fn tick(&self) -> &Tick {
        &self.tick
    }

    /// Takes the tick out.
    pub fn into_tick(self) -> Tick {
        self.tick
    }

    /// Its sequence in `TICKS`.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Its place among the ticks of its symbol.
    pub fn position(&self) -> Position {
        Position { ts_ns: nanoseconds(self.tick.ts), seq: signed(self.seq) }
    }

    pub(super) fn received_at_ns(&self) -> i64 {
        nanoseconds(self.tick.received_at)
    }

    pub(super) fn raw_seq(&self) -> i64 {
        signed(self.tick.raw_seq)
    }
}

/// The nanoseconds of a time that [`StoredTick::new`] has checked.
fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// A sequence that [`StoredTick::new`] has checked.
fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use schemas::{Decimal, Source, Symbol, TickKind};

    use super::*;

    fn tick() -> Tick {
        Tick {
            id: "file:1.0".into(),
            symbol: Symbol::new("IBM").unwrap(),
            price: Decimal::parse("184.2100").unwrap(),
            size: None,
            currency: "USD".into(),
            exchange: None,
            kind: TickKind::Trade,
            ts: "2013-10-07T13:30:00.123456789Z".parse().unwrap(),
            received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
            source: Source::new("file").unwrap(),
            raw_seq: 18,
            flags: Vec::new(),
        }
    }

    #[test]
    fn what_no_store_can_keep_is_refused_by_name() {
        assert!(StoredTick::new(tick(), 1).is_ok());
        let far = Tick { ts: "2300-01-01T00:00:00Z".parse().unwrap(), ..tick() };
        assert!(StoredTick::new(far, 1).unwrap_err().to_string().starts_with("ts is 2300"));
        assert_eq!(StoredTick::new(tick(), u64::MAX), Err(Unstorable::Sequence("seq")));
        let nul = Tick { exchange: Some("A\0".into()), ..tick() };
        assert_eq!(StoredTick::new(nul, 1), Err(Unstorable::Nul("exchange")));
        let long = Tick { id: "x".repeat(201), ..tick() };
        let fault = StoredTick::new(long, 1).unwrap_err().to_string();
        assert!(fault.contains("id") && !fault.contains('\n'), "{fault}");
    }
}
