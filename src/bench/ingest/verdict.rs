//! Whether everything that the providers sent is stored once, and how long that took.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A payload that a provider has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    /// Which, by its [`key`].
    pub(super) key: u64,
    /// When, in nanoseconds since 1970.
    pub(super) at: i64,
    /// Whether it is a trade, and not a quote.
    pub(super) is_trade: bool,
}

impl Sent {
    /// A payload of this source that is sent now.
    pub(super) fn now(source: &str, symbol: &str, body: &str, is_trade: bool) -> Self {
        let key = key(source, symbol, body.as_bytes());
        Self { key, at: nanos(Timestamp::now()), is_trade }
    }
}

/// In nanoseconds since 1970.
pub(super) fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// What tells a payload from all others, in whatever process of this program.
pub(super) fn key(source: &str, symbol: &str, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (source, symbol, body).hash(&mut hasher);
    hasher.finish()
}

/// From being sent to being stored, of trades and of quotes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delays {
    pub(super) trades: Vec<Duration>,
    pub(super) quotes: Vec<Duration>,
}

/// What was sent and is not known to be stored, and how long the rest took.
pub(super) struct Expected {
    sent: HashMap<u64, Sent>,
    /// Only what was sent since then is timed.
    since: i64,
    delays: Delays,
}

impl Expected {
    pub(super) fn new(sent: &[Sent], since: Timestamp) -> Result<Self> {
        let by_key: HashMap<_, _> = sent.iter().map(|sent| (sent.key, *sent)).collect();
        ensure!(by_key.len() == sent.len(), "two payloads of the benchmark are the same");
        Ok(Self { sent: by_key, since: nanos(since), delays: Delays::default() })
    }

    /// This one is stored.
    pub(super) fn stored(&mut self, key: u64, at: Timestamp) -> Result<()> {
        let sent = self.sent.remove(&key);
        let sent = sent.context("a payload is stored twice, or was never sent")?;
        if sent.at >= self.since {
            let delay = nanos(at).saturating_sub(sent.at);
            let delay = Duration::from_nanos(u64::try_from(delay).unwrap_or(0));
            let delays = &mut self.delays;
            if sent.is_trade { &mut delays.trades } else { &mut delays.quotes }.push(delay);
        }
        Ok(())
    }

    /// There is no more.
    pub(super) fn end(self) -> Result<Delays> {
        let lost = self.sent.len();
        ensure!(lost == 0, "{lost} payloads are lost");
        Ok(self.delays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn sent(n: u64, ms: i64, is_trade: bool) -> Sent {
        Sent { key: n, at: nanos(at(ms)), is_trade }
    }

    #[test]
    fn what_is_stored_once_is_timed_from_the_beginning_on() {
        let all = [sent(1, 900, true), sent(2, 1_000, true), sent(3, 1_500, false)];
        let mut expected = Expected::new(&all, at(1_000)).unwrap();
        for (key, ms) in [(3, 1_503), (1, 905), (2, 1_002)] {
            expected.stored(key, at(ms)).unwrap();
        }
        let ms = Duration::from_millis;
        assert_eq!(expected.end().unwrap(), Delays { trades: vec![ms(2)], quotes: vec![ms(3)] });
    }

    #[test]
    fn what_is_lost_doubled_or_foreign_is_a_fault() {
        let all = [sent(1, 0, true), sent(2, 0, true)];
        let mut expected = Expected::new(&all, at(0)).unwrap();
        expected.stored(1, at(1)).unwrap();
        assert!(expected.stored(1, at(1)).is_err());
        assert!(expected.stored(9, at(1)).is_err());
        assert_eq!(expected.end().unwrap_err().to_string(), "1 payloads are lost");
        assert!(Expected::new(&[all[0], all[0]], at(0)).is_err());
    }

    #[test]
    fn a_key_is_of_source_symbol_and_body() {
        let keys =
            [key("a", "b", b"c"), key("a", "b", b"d"), key("a", "c", b"c"), key("b", "b", b"c")];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), 4);
        assert_eq!(keys[0], key("a", "b", b"c"));
    }
}
