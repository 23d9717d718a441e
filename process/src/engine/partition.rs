//! Which partition an event belongs to.
//!
//! The subject space is cut as the server's own `{{partition(N,…)}}` cuts it: by the FNV-1a hash of
//! the symbol's token (32 bits), modulo the number of partitions. A payload of one symbol belongs
//! with all its events to the partition of the symbol it was published for. A payload of many is
//! taken apart: each event belongs to the partition of its own symbol, and what has none to that of
//! the source. So whoever owns a partition is the only one who writes the ticks of its symbols,
//! whatever source they come from.

use schemas::{MANY_SYMBOLS, Symbol};

use crate::decode::Event;

/// Where a payload belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// To one partition, whatever is in it.
    One(u16),
    /// Each event to the partition of its symbol, the rest to this one.
    Many(u16),
}

impl Home {
    /// By the subject of the payload.
    pub(super) fn of(subject: &str, count: u16) -> Self {
        let mut tokens = subject.rsplit('.');
        match (tokens.next(), tokens.next()) {
            (Some(MANY_SYMBOLS), Some(source)) => Self::Many(of_token(source, count)),
            (Some(symbol), _) => Self::One(of_token(symbol, count)),
            (None, _) => Self::One(0),
        }
    }

    /// The partition of the payload itself.
    pub(super) fn partition(self) -> u16 {
        let (Self::One(partition) | Self::Many(partition)) = self;
        partition
    }

    /// The partition of one of its events.
    pub(super) fn of_event(self, event: &Event, count: u16) -> u16 {
        match (self, event) {
            (Self::Many(_), Ok(event)) => of_symbol(&event.symbol, count),
            (Self::One(partition) | Self::Many(partition), _) => partition,
        }
    }
}

/// The partition in which an event is judged: that of the symbol that its payload is published for, and of
/// its own where the payload is one of many.
pub(crate) fn of_tick(payload: Option<&Symbol>, symbol: &Symbol, count: u16) -> u16 {
    of_symbol(payload.unwrap_or(symbol), count)
}

/// The partition of a symbol.
pub(super) fn of_symbol(symbol: &Symbol, count: u16) -> u16 {
    of_token(&symbol.token(), count)
}

/// The partition of the last token of a subject.
pub(super) fn of_subject(subject: &str, count: u16) -> u16 {
    of_token(subject.rsplit('.').next().unwrap_or_default(), count)
}

fn of_token(token: &str, count: u16) -> u16 {
    const OFFSET: u32 = 2_166_136_261;
    const PRIME: u32 = 16_777_619;
    let hash =
        token.bytes().fold(OFFSET, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME));
    // Less than `count`, which is at least one.
    u16::try_from(hash % u32::from(count.max(1))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use schemas::{Reason, Rejection};

    use super::*;

    #[test]
    fn a_payload_of_one_symbol_is_at_home_where_its_symbol_is() {
        let home = Home::of("ticks.raw.sim.BRK=2EB", 8);
        let symbol = Symbol::new("BRK.B").unwrap();
        assert_eq!(home, Home::One(of_symbol(&symbol, 8)));
        assert_eq!(of_subject("ticks.norm.BRK=2EB", 8), home.partition());
        let failed = Err(Rejection::decode(Reason::Malformed, ""));
        assert_eq!(home.of_event(&failed, 8), home.partition());
    }

    #[test]
    fn a_payload_of_many_is_taken_apart_and_its_rest_is_with_its_source() {
        let home = Home::of("ticks.raw.html:shop._", 8);
        assert_eq!(home, Home::Many(of_token("html:shop", 8)));
        let failed = Err(Rejection::decode(Reason::Malformed, ""));
        assert_eq!(home.of_event(&failed, 8), home.partition());
    }

    #[test]
    fn it_is_the_partition_that_the_server_gives() {
        for (token, partition) in SERVER {
            assert_eq!(of_token(token, 8), partition, "{token}");
        }
    }

    /// What nats-server 2.15 makes of `{{partition(8,1)}}`.
    const SERVER: [(&str, u16); 6] =
        [("AAPL", 3), ("BRK=2EB", 6), ("BTC-USD", 1), ("EUR/USD", 0), ("SPY", 5), ("AIG", 0)];

    #[test]
    fn twenty_thousand_symbols_are_spread_evenly() {
        let mut sizes = [0_u32; 8];
        for n in 0..20_000 {
            sizes[usize::from(of_token(&format!("S{n}"), 8))] += 1;
        }
        assert!(sizes.iter().all(|size| (2_300..2_700).contains(size)), "{sizes:?}");
    }
}
