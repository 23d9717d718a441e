//! When there are ticks: evenly, but for the bursts at the opens of the market.

use std::time::Duration;

use crate::config::SimConfig;

const NANOS: u64 = 1_000_000_000;

/// The burst at an open dies away over this part of the time to the next.
const BURST_PART: u64 = 10;

/// When each tick is due, since the beginning.
pub(super) struct Schedule {
    per_sec: u64,
    /// Between two opens, in nanoseconds; 0 where there are none.
    open_every: u64,
    /// How many times as many ticks there are at an open.
    burst: u64,
    next: u64,
}

impl Schedule {
    pub(super) fn new(config: &SimConfig) -> Self {
        Self {
            per_sec: config.ticks_per_sec.into(),
            open_every: u64::from(config.open_every_secs) * NANOS,
            burst: config.open_burst.into(),
            next: 0,
        }
    }

    /// When the next tick is due.
    pub(super) fn next(&mut self) -> Duration {
        let due = self.next;
        let thousandths = 1_000 + (self.burst - 1) * self.burst_left(due);
        // At least 10 ns: a million a second, a hundred times as many at the open.
        self.next += NANOS * 1_000 / (self.per_sec * thousandths);
        Duration::from_nanos(due)
    }

    /// How much of the burst is left, in thousandths. The market does not open at the beginning.
    fn burst_left(&self, at: u64) -> u64 {
        if self.open_every == 0 || at < self.open_every {
            return 0;
        }
        let lasts = self.open_every / BURST_PART;
        // Without the nanoseconds, so that no product is too large.
        lasts.saturating_sub(at % self.open_every) / 1_000 * 1_000 / (lasts / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(config: &SimConfig, count: usize) -> Vec<Duration> {
        let mut schedule = Schedule::new(config);
        (0..count).map(|_| schedule.next()).collect()
    }

    #[test]
    fn without_opens_ticks_are_evenly_spread() {
        let config = SimConfig { ticks_per_sec: 20, open_every_secs: 0, ..SimConfig::default() };
        let expected: Vec<_> = (0..1_000).map(|n| Duration::from_millis(50) * n).collect();
        assert_eq!(dues(&config, 1_000), expected);
    }

    #[test]
    fn an_open_is_a_burst_that_dies_away() {
        let config = SimConfig {
            ticks_per_sec: 100,
            open_every_secs: 100,
            open_burst: 10,
            ..SimConfig::default()
        };
        let dues = dues(&config, 50_000);
        let within = |from: u64, to: u64| {
            let range = Duration::from_secs(from)..Duration::from_secs(to);
            dues.iter().filter(|due| range.contains(*due)).count()
        };
        assert_eq!(within(0, 100), 10_000);
        assert!((900..=1_000).contains(&within(100, 101)), "{}", within(100, 101));
        assert!((450..=650).contains(&within(105, 106)), "{}", within(105, 106));
        assert_eq!(within(110, 200), 9_000);
        // The last tick before it may be due 10 ms late.
        assert!(within(200, 201).abs_diff(within(100, 101)) <= 11, "each open is alike");
        let most = SimConfig { ticks_per_sec: 1_000_000, open_burst: 100, ..config };
        assert!(self::dues(&most, 1_000).is_sorted_by(|a, b| a < b), "time goes on");
    }
}
