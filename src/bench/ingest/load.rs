//! What providers offer and the target follows.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::provider::Feed;

/// How many symbols a connection follows.
pub(super) const SYMBOLS: usize = 10;

/// What the stub providers offer, all of it followed by the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args, Serialize)]
pub(super) struct Load {
    /// So many symbols are polled
    pub(super) polled: usize,
    /// each after so many seconds again
    pub(super) interval_secs: u64,
    /// and an answer takes so many milliseconds
    pub(super) answer_ms: u64,
    /// So many streaming connections
    pub(super) connections: usize,
    /// bring so many trades a second each
    pub(super) per_sec: u64,
    /// and once in ten seconds so many at once
    pub(super) burst: u64,
}

impl Load {
    pub(super) fn interval(self) -> Duration {
        Duration::from_secs(self.interval_secs)
    }

    /// The symbols that are polled, by their places.
    pub(super) fn polled_symbols(self) -> Vec<String> {
        (0..self.polled).map(|place| format!("S{place:04}")).collect()
    }

    /// The symbols of each connection of a feed. The connections are dealt out to the feeds in turn.
    pub(super) fn followed(self, feed: Feed) -> Vec<Vec<String>> {
        let ours = (0..self.connections).filter(|place| Feed::ALL[place % Feed::ALL.len()] == feed);
        ours.map(|place| (0..SYMBOLS).map(|n| feed.symbol(place * SYMBOLS + n)).collect()).collect()
    }

    /// The same as arguments of a command.
    pub(super) fn args(self) -> [String; 6] {
        let Self { polled, interval_secs, answer_ms, connections, per_sec, burst } = self;
        [
            polled.to_string(),
            interval_secs.to_string(),
            answer_ms.to_string(),
            connections.to_string(),
            per_sec.to_string(),
            burst.to_string(),
        ]
    }
}

/// Between two looks at what is due of a stream.
pub(super) const STEP: Duration = Duration::from_millis(20);

/// How many trades a connection has brought after so many steps.
pub(super) fn due(steps: u64, load: Load) -> u64 {
    const STEPS_A_SECOND: u64 = 50;
    steps * load.per_sec / STEPS_A_SECOND + steps / (10 * STEPS_A_SECOND) * load.burst
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        polled: 2,
        interval_secs: 10,
        answer_ms: 50,
        connections: 20,
        per_sec: 70,
        burst: 100,
    };

    #[test]
    fn the_connections_are_dealt_out_and_share_no_symbol() {
        let all: Vec<_> = Feed::ALL.iter().map(|feed| LOAD.followed(*feed)).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 6]);
        let symbols: Vec<_> = all.concat().concat();
        let distinct: std::collections::BTreeSet<_> = symbols.iter().collect();
        assert_eq!((symbols.len(), distinct.len()), (200, 200));
    }

    #[test]
    fn trades_come_at_their_rate_with_a_burst_each_ten_seconds() {
        let after = |secs: u64| due(secs * 50, LOAD);
        assert_eq!([0, 1, 9, 10, 20].map(after), [0, 70, 630, 800, 1_600]);
        assert_eq!([1, 2, 3].map(|steps| due(steps, LOAD)), [1, 2, 4]);
    }
}
