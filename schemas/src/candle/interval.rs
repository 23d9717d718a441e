//! The lengths that candles come in.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;

/// The lengths that candles come in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
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
    /// One day of the exchange, in its own time zone; a day in UTC where there is no exchange.
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

    /// How long one candle lasts. A day on which clocks change is an hour shorter or longer.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds().unsigned_abs())
    }

    /// The span of UTC, aligned to the epoch, that a time falls into: from its first nanosecond
    /// until before the second of the two. `None` at the ends of time.
    pub fn span(self, ts: Timestamp) -> Option<(Timestamp, Timestamp)> {
        // A time before the epoch counts its nanoseconds backwards from the second after it.
        let second = ts.as_second() - i64::from(ts.subsec_nanosecond() < 0);
        let start = second.div_euclid(self.seconds()) * self.seconds();
        let at = |second| Timestamp::from_second(second).ok();
        Some((at(start)?, at(start + self.seconds())?))
    }

    /// The span that a time falls into on an exchange that keeps this calendar: a day is one of its
    /// own time zone, and everything shorter is aligned to UTC.
    pub fn span_in(self, calendar: Calendar, ts: Timestamp) -> Option<(Timestamp, Timestamp)> {
        match self {
            Self::OneDay => {
                let (start, end) = calendar.span(calendar.date(ts));
                (start <= ts && ts < end).then_some((start, end))
            }
            shorter => shorter.span(ts),
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Self::OneSecond => 1,
            Self::FiveSeconds => 5,
            Self::OneMinute => 60,
            Self::FiveMinutes => 300,
            Self::FifteenMinutes => 900,
            Self::OneHour => 3_600,
            Self::OneDay => 86_400,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_aligned_to_the_epoch_on_both_sides_of_it() {
        let span = |interval: CandleInterval, ts: &str| {
            let (start, end) = interval.span(ts.parse().unwrap()).unwrap();
            (start.to_string(), end.to_string())
        };
        for (interval, ts, start, end) in [
            ("1m", "2013-10-07T13:30:00Z", "2013-10-07T13:30:00Z", "2013-10-07T13:31:00Z"),
            (
                "1m",
                "2013-10-07T13:30:59.999999999Z",
                "2013-10-07T13:30:00Z",
                "2013-10-07T13:31:00Z",
            ),
            ("1d", "2013-10-07T13:30:00Z", "2013-10-07T00:00:00Z", "2013-10-08T00:00:00Z"),
            ("1s", "1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
            ("5s", "1969-12-31T23:59:55Z", "1969-12-31T23:59:55Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(span(interval.parse().unwrap(), ts), (start.to_owned(), end.to_owned()));
        }
        assert_eq!(CandleInterval::OneDay.span(Timestamp::MAX), None);
        assert_eq!(CandleInterval::OneDay.span(Timestamp::MIN), None);
    }
}
