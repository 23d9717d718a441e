//! What may be set.

use jiff::SignedDuration;
use schemars::JsonSchema;
use schemas::CandleInterval;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How candles are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CandlesConfig {
    /// Which candles are made: any of 1s, 5s, 1m, 5m, 15m, 1h and 1d. Empty: none.
    pub intervals: Vec<CandleInterval>,
    /// How far the event time of a source must have gone past the end of a candle before it is
    /// closed, in milliseconds.
    pub grace_ms: u64,
    /// How far it may have gone past the end of a candle for a late trade to still be taken in, in
    /// milliseconds: a closed candle is then published again with a higher revision. A trade that
    /// comes later is counted in a metric and is in no candle.
    pub late_ms: u64,
    /// How often the candles that are running are published where they have changed, in
    /// milliseconds; those that are not longer than that are not. 0: never.
    pub running_ms: u64,
}

impl Default for CandlesConfig {
    fn default() -> Self {
        Self {
            intervals: CandleInterval::ALL.to_vec(),
            grace_ms: 1_000,
            late_ms: 30_000,
            running_ms: 1_000,
        }
    }
}

impl CandlesConfig {
    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |key, fault: &str| Err(Error::Config { key, fault: fault.to_owned() });
        let mut intervals = self.intervals.clone();
        intervals.sort_unstable();
        intervals.dedup();
        if intervals.len() != self.intervals.len() {
            return wrong("process.candles.intervals", "an interval is there twice");
        }
        if self.grace_ms > 60_000 {
            return wrong("process.candles.grace_ms", "must be at most 60000, a minute");
        }
        if self.late_ms < self.grace_ms || self.late_ms > 3_600_000 {
            return wrong(
                "process.candles.late_ms",
                "must be at least process.candles.grace_ms, and at most 3600000, an hour",
            );
        }
        if (1..100).contains(&self.running_ms) || self.running_ms > 60_000 {
            return wrong("process.candles.running_ms", "must be 0, or from 100 to 60000");
        }
        Ok(())
    }

    pub(super) fn grace(&self) -> SignedDuration {
        milliseconds(self.grace_ms)
    }

    pub(super) fn lateness(&self) -> SignedDuration {
        milliseconds(self.late_ms)
    }
}

/// An hour at most, says the validation.
fn milliseconds(count: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_fault_names_its_key() {
        let config = CandlesConfig::default();
        assert!(config.validate().is_ok());
        for (config, key) in [
            (
                CandlesConfig { intervals: vec![CandleInterval::OneDay; 2], ..config.clone() },
                "process.candles.intervals",
            ),
            (CandlesConfig { grace_ms: 60_001, ..config.clone() }, "process.candles.grace_ms"),
            (CandlesConfig { late_ms: 999, ..config.clone() }, "process.candles.late_ms"),
            (CandlesConfig { running_ms: 99, ..config.clone() }, "process.candles.running_ms"),
        ] {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.starts_with(key), "{text}");
        }
    }
}
