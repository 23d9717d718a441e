//! The language of conditions.
//!
//! ```text
//! AAPL > 200                                 the price of the newest tick
//! change(TSLA, 5m) < -2%                     the price against the one 5 minutes before
//! volume(AAPL, 1m) > 100000                  what was traded in this minute so far
//! volume(AAPL, 1m) > 3 * average(20)         … against the 20 minutes of trading before it
//! "A > B" >= 1.5                             a symbol with characters of the language
//! ```
//!
//! Comparisons are `>`, `>=`, `<` and `<=`; a volume has only the first two, because each window
//! begins at nothing. A window is a whole number of `s`, `m`, `h` or `d`, at most a day. Numbers are
//! exact decimals.

use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ConditionError;
use crate::{Decimal, Symbol};

/// The longest text of a condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 512;

/// The longest window, in seconds: a day.
pub const MAX_WINDOW_SECS: u32 = 86_400;

/// How many windows an average may be of.
pub const MAX_AVERAGED: u8 = 100;

/// What has to hold for an alert: something about one symbol, compared with a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whose prices or trades.
    pub symbol: Symbol,
    /// What is compared, and with what.
    pub measure: Measure,
    /// How.
    pub comparison: Comparison,
}

/// What is compared, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// The price of the newest tick.
    Price {
        /// A price, greater than zero.
        bound: Decimal,
    },
    /// By how much the price has changed within a window, in per cent of the price at its begin.
    Change {
        /// How far back.
        window: Window,
        /// Per cent.
        bound: Decimal,
    },
    /// The sizes of the trades in the window that is running. Windows are aligned as candles are:
    /// those of a minute begin with the minutes of UTC.
    Volume {
        /// How long the windows are.
        window: Window,
        /// What it is compared with.
        bound: VolumeBound,
    },
}

/// What a volume is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeBound {
    /// So much.
    Size(Decimal),
    /// So many times the average of the newest windows before this one in which there were trades;
    /// while there have been fewer, the condition does not hold.
    Average {
        /// How many times the average.
        factor: Decimal,
        /// Of how many windows.
        windows: u8,
    },
}

/// A length of time, from a second to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(u32);

/// How two numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
}

impl Window {
    /// So many seconds; `None` where that is nothing, or more than a day.
    pub fn from_secs(seconds: u32) -> Option<Self> {
        (1..=MAX_WINDOW_SECS).contains(&seconds).then_some(Self(seconds))
    }

    /// In milliseconds.
    pub fn milliseconds(self) -> i64 {
        i64::from(self.0) * 1_000
    }
}

impl Comparison {
    /// Whether a value that compares with the bound like this is on the side that is meant.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Above => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
            Self::Below => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }
}

/// Characters that a symbol has only between quotation marks.
pub(super) fn needs_quotes(character: char) -> bool {
    character.is_whitespace() || matches!(character, '<' | '>' | '(' | ')' | ',' | '"' | '*')
}

/// A symbol as it is written in a condition.
struct Name<'a>(&'a Symbol);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        if text.contains(needs_quotes) {
            write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            f.write_str(text)
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
        let unit = units.into_iter().find(|(seconds, _)| self.0.is_multiple_of(*seconds));
        let (seconds, unit) = unit.unwrap_or((1, "s"));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (symbol, comparison) = (Name(&self.symbol), self.comparison.as_str());
        match &self.measure {
            Measure::Price { bound } => write!(f, "{symbol} {comparison} {bound}"),
            Measure::Change { window, bound } => {
                write!(f, "change({symbol}, {window}) {comparison} {bound}%")
            }
            Measure::Volume { window, bound: VolumeBound::Size(size) } => {
                write!(f, "volume({symbol}, {window}) {comparison} {size}")
            }
            Measure::Volume { window, bound: VolumeBound::Average { factor, windows } } => {
                let average = format_args!("{factor} * average({windows})");
                write!(f, "volume({symbol}, {window}) {comparison} {average}")
            }
        }
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        super::parse::condition(text)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Such as `AAPL > 200`, `change(TSLA, 5m) < -2%` or \
                `volume(AAPL, 1m) > 3 * average(20)`.",
            "maxLength": MAX_CONDITION_BYTES,
        })
    }
}
