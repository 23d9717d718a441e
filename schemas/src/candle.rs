//! Open, high, low, close and volume of a span of time.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Decimal, Symbol, tick::Utc};

/// The lengths that candles come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CandleInterval {
    /// One second.
    #[serde(rename = "1s")]
    OneSecond,
    /// Five seconds.
    #[serde(rename = "5s")]
    FiveSeconds,
    /// One minute.
    #[serde(rename = "1m")]
    OneMinute,
    /// Five minutes.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// A quarter of an hour.
    #[serde(rename = "15m")]
    FifteenMinutes,
    /// One hour.
    #[serde(rename = "1h")]
    OneHour,
    /// One day, in UTC.
    #[serde(rename = "1d")]
    OneDay,
}

impl CandleInterval {
    /// All intervals, shortest first.
    pub const ALL: [Self; 7] = [
        Self::OneSecond,
        Self::FiveSeconds,
        Self::OneMinute,
        Self::FiveMinutes,
        Self::FifteenMinutes,
        Self::OneHour,
        Self::OneDay,
    ];

    /// As in subjects and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneSecond => "1s",
            Self::FiveSeconds => "5s",
            Self::OneMinute => "1m",
            Self::FiveMinutes => "5m",
            Self::FifteenMinutes => "15m",
            Self::OneHour => "1h",
            Self::OneDay => "1d",
        }
    }

    /// How long one candle lasts.
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::OneSecond => 1,
            Self::FiveSeconds => 5,
            Self::OneMinute => 60,
            Self::FiveMinutes => 300,
            Self::FifteenMinutes => 900,
            Self::OneHour => 3_600,
            Self::OneDay => 86_400,
        })
    }
}

impl fmt::Display for CandleInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a candle interval: 1s, 5s, 1m, 5m, 15m, 1h or 1d")]
pub struct IntervalError(String);

impl FromStr for CandleInterval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        Self::ALL
            .into_iter()
            .find(|interval| interval.as_str() == text)
            .ok_or_else(|| IntervalError(text.chars().take(20).collect()))
    }
}

/// The trades of one symbol in one span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candle {
    /// The symbol.
    pub symbol: Symbol,
    /// How long the span is.
    pub interval: CandleInterval,
    /// When the span begins, UTC; it holds events from here on.
    #[schemars(with = "Utc")]
    pub start: Timestamp,
    /// The first price.
    pub open: Decimal,
    /// The highest price.
    pub high: Decimal,
    /// The lowest price.
    pub low: Decimal,
    /// The last price.
    pub close: Decimal,
    /// The sum of the sizes.
    pub volume: Decimal,
    /// How many ticks there were.
    pub trades: u64,
}
