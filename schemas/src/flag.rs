//! What a rule found remarkable in a tick that it let pass.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mark on a tick: it is what its source sent, and this is to be known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The price is far from those before it.
    Outlier,
    /// The price is far from those before it, and near to enough outliers in a row: a new level.
    LevelShift,
    /// Its event time is before that of the tick before it, of the same symbol and source.
    OutOfOrder,
    /// It was older when it was received than its source's data may be.
    Stale,
    /// It is dated further in the future than clocks differ.
    Future,
    /// It happened before the regular session of its exchange.
    PreMarket,
    /// It happened after the regular session of its exchange.
    PostMarket,
    /// It happened while its exchange was closed.
    Closed,
    /// No source has announced the symbol.
    UnknownSymbol,
    /// Trading in the symbol is halted.
    Halted,
}

impl Flag {
    /// All flags there are.
    pub const ALL: [Self; 10] = [
        Self::Outlier,
        Self::LevelShift,
        Self::OutOfOrder,
        Self::Stale,
        Self::Future,
        Self::PreMarket,
        Self::PostMarket,
        Self::Closed,
        Self::UnknownSymbol,
        Self::Halted,
    ];

    /// As in JSON and in the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outlier => "outlier",
            Self::LevelShift => "level_shift",
            Self::OutOfOrder => "out_of_order",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::PreMarket => "pre_market",
            Self::PostMarket => "post_market",
            Self::Closed => "closed",
            Self::UnknownSymbol => "unknown_symbol",
            Self::Halted => "halted",
        }
    }

    /// The flag of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.as_str() == name)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_has_one_name_everywhere() {
        for flag in Flag::ALL {
            assert_eq!(serde_json::to_string(&flag).unwrap(), format!("\"{flag}\""));
            assert_eq!(Flag::from_name(flag.as_str()), Some(flag));
        }
        assert_eq!(Flag::from_name("odd"), None);
    }
}
