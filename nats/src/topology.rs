//! The streams, consumers and buckets of the pipeline, declared once, as data.

use std::fmt;

use schemars::JsonSchema;
use schemas::subject;
use serde::{Deserialize, Serialize};

/// The streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Provider payloads, byte for byte.
    Raw,
    /// Normalised ticks.
    Ticks,
    /// What could not be used, with the reason.
    Rejected,
    /// Closed candles.
    Candles,
    /// Rules that have come true.
    Alerts,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 5] =
        [Self::Raw, Self::Ticks, Self::Rejected, Self::Candles, Self::Alerts];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => subject::TICKS_RAW,
            Self::Ticks => subject::TICKS,
            Self::Rejected => subject::TICKS_REJECTED,
            Self::Candles => subject::CANDLES,
            Self::Alerts => subject::ALERTS,
        }
    }

    /// The subjects it stores.
    pub fn subjects(self) -> &'static str {
        match self {
            Self::Raw => subject::ALL_RAW,
            Self::Ticks => subject::ALL_TICKS,
            Self::Rejected => subject::ALL_REJECTED,
            Self::Candles => subject::ALL_CANDLES,
            Self::Alerts => subject::ALL_ALERTS,
        }
    }

    /// The subjects of the fences of its partitions, beside its own, where it has any: whoever reads
    /// the stream never sees them.
    pub(crate) fn fences(self) -> Option<&'static str> {
        match self {
            Self::Ticks => Some("ticks.fence.norm.*"),
            Self::Rejected => Some("ticks.fence.rejected.*"),
            Self::Raw | Self::Candles | Self::Alerts => None,
        }
    }

    /// What it holds, for `nats stream info`.
    pub fn description(self) -> &'static str {
        match self {
            Self::Raw => "provider payloads as fetched, byte for byte",
            Self::Ticks => "normalised ticks, one a message, in event order per symbol",
            Self::Rejected => "payloads that could not be used, unchanged, with the reason",
            Self::Candles => "closed OHLCV candles",
            Self::Alerts => "alerts: rules that have come true, once per crossing",
        }
    }

    /// The stream that stores the subject.
    pub fn of_subject(subject: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| is_match(stream.subjects(), subject))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether the pattern matches the subject, as NATS defines it.
pub(crate) fn is_match(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    let mut patterns = pattern.split('.').peekable();
    while let Some(wanted) = patterns.next() {
        let Some(token) = tokens.next().filter(|token| !token.is_empty()) else { return false };
        match wanted {
            ">" if patterns.peek().is_none() => return true,
            "*" => {}
            literal if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// A durable consumer.
#[derive(Debug, PartialEq, Eq)]
pub struct Durable {
    /// Its name.
    pub name: &'static str,
    /// The stream it reads, all of it.
    pub stream: Stream,
    /// What it is for, for `nats consumer info`.
    pub description: &'static str,
    /// How many messages may be delivered and not yet acknowledged: the bound of what its reader
    /// holds in memory.
    pub window: u32,
}

/// Decodes and validates.
pub const PROCESS: Durable = Durable {
    name: "process",
    stream: Stream::Raw,
    description: "decodes, validates and republishes",
    window: 4_096,
};

/// Keeps every raw payload.
pub const ARCHIVE: Durable = Durable {
    name: "archive",
    stream: Stream::Raw,
    description: "writes every raw payload to the raw store",
    window: 8_192,
};

/// Stores normalised ticks.
pub const STORE: Durable = Durable {
    name: "store",
    stream: Stream::Ticks,
    description: "writes ticks to the store and the newest to last_price",
    window: 8_192,
};

/// Makes candles of ticks. What it has not acknowledged is what it has read since it last saved
/// its state.
pub const CANDLES: Durable = Durable {
    name: "candles",
    stream: Stream::Ticks,
    description: "makes candles of ticks",
    window: 65_536,
};

/// How much the streams keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamsConfig {
    /// How long `TICKS_RAW` keeps a payload, in hours.
    pub raw_max_age_hours: u64,
    /// How large `TICKS_RAW` may grow, in MiB; the oldest goes first.
    pub raw_max_mib: u64,
    /// How long `TICKS` keeps a tick, in hours.
    pub ticks_max_age_hours: u64,
    /// How large `TICKS` may grow, in MiB; the oldest goes first.
    pub ticks_max_mib: u64,
    /// How long `TICKS_REJECTED` keeps a rejection, in hours.
    pub rejected_max_age_hours: u64,
    /// How large `TICKS_REJECTED` may grow, in MiB; the oldest goes first.
    pub rejected_max_mib: u64,
    /// How long `CANDLES` keeps a candle, in hours.
    pub candles_max_age_hours: u64,
    /// How large `CANDLES` may grow, in MiB; the oldest goes first.
    pub candles_max_mib: u64,
    /// How long `ALERTS` keeps an alert, in hours.
    pub alerts_max_age_hours: u64,
    /// How large `ALERTS` may grow, in MiB; the oldest goes first.
    pub alerts_max_mib: u64,
    /// How long a message id is remembered, so that its second message is dropped, in seconds.
    pub duplicate_window_secs: u64,
    /// How many servers of a NATS cluster keep each stream and bucket: 1, 3 or 5.
    pub replicas: usize,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        const WEEK: u64 = 7 * 24;
        Self {
            raw_max_age_hours: WEEK,
            raw_max_mib: 2_048,
            ticks_max_age_hours: WEEK,
            ticks_max_mib: 2_048,
            rejected_max_age_hours: 4 * WEEK,
            rejected_max_mib: 512,
            candles_max_age_hours: 4 * WEEK,
            candles_max_mib: 256,
            alerts_max_age_hours: WEEK,
            alerts_max_mib: 64,
            duplicate_window_secs: 120,
            replicas: 1,
        }
    }
}

impl StreamsConfig {
    /// The age in hours and the size in MiB that a stream may reach.
    pub fn limits(&self, stream: Stream) -> (u64, u64) {
        match stream {
            Stream::Raw => (self.raw_max_age_hours, self.raw_max_mib),
            Stream::Ticks => (self.ticks_max_age_hours, self.ticks_max_mib),
            Stream::Rejected => (self.rejected_max_age_hours, self.rejected_max_mib),
            Stream::Candles => (self.candles_max_age_hours, self.candles_max_mib),
            Stream::Alerts => (self.alerts_max_age_hours, self.alerts_max_mib),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_as_in_nats() {
        for (pattern, subject, expected) in [
            ("ticks.norm.AAPL", "ticks.norm.AAPL", true),
            ("ticks.norm.AAPL", "ticks.norm.AAP", false),
            ("ticks.norm.*", "ticks.norm.BRK=2EB", true),
            ("ticks.norm.*", "ticks.norm.EUR/USD", true),
            ("ticks.norm.*", "ticks.norm", false),
            ("ticks.norm.*", "ticks.norm.A.B", false),
            ("ticks.*.AAPL", "ticks.raw.AAPL", true),
            ("ticks.raw.>", "ticks.raw.sim.AAPL", true),
            ("ticks.raw.>", "ticks.raw.sim", true),
            ("ticks.raw.>", "ticks.raw", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("*", "a.b", false),
            ("candles.*.>", "candles.1m.AAPL", true),
            ("candles.*.>", "candles.1m", false),
            ("ticks.>.AAPL", "ticks.x.AAPL", false),
        ] {
            assert_eq!(is_match(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn a_subject_belongs_to_one_stream() {
        assert_eq!(Stream::of_subject("ticks.raw.sim.AAPL"), Some(Stream::Raw));
        assert_eq!(Stream::of_subject("ticks.norm.AAPL"), Some(Stream::Ticks));
        assert_eq!(Stream::of_subject("ticks.rejected.sim.future"), Some(Stream::Rejected));
        assert_eq!(Stream::of_subject("candles.1m.AAPL"), Some(Stream::Candles));
        assert_eq!(Stream::of_subject("alerts.AAPL"), Some(Stream::Alerts));
        assert_eq!(Stream::of_subject("candles.running.1m.AAPL"), None);
        assert_eq!(Stream::of_subject("ticks.norm."), None);
        assert_eq!(Stream::of_subject("orders.AAPL"), None);
    }
}
