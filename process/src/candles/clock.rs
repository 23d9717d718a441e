//! How far the event time of each source has come.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use schemas::Source;
use tokio::time::Instant;

/// A clock per source, for sources are far apart: one is live, another replays a day of years ago.
///
/// A clock shows the newest event time of its source and, while nothing newer comes, runs on at the
/// pace of the wall: so candles are closed in a silent market, too.
#[derive(Default)]
pub(super) struct Clocks(HashMap<Source, Clock>);

struct Clock {
    newest: Timestamp,
    /// When that was read.
    read_at: Instant,
}

impl Clocks {
    /// An event of that time was read.
    pub(super) fn advance(&mut self, source: &Source, ts: Timestamp, now: Instant) {
        match self.0.get_mut(source) {
            Some(clock) if ts > clock.newest => *clock = Clock { newest: ts, read_at: now },
            Some(_) => {}
            None => {
                self.0.insert(source.clone(), Clock { newest: ts, read_at: now });
            }
        }
    }

    /// The event time of a source; the beginning of time where nothing was read of it.
    pub(super) fn at(&self, source: &Source, now: Instant) -> Timestamp {
        let Some(clock) = self.0.get(source) else { return Timestamp::MIN };
        let elapsed = now.duration_since(clock.read_at);
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        clock.newest.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_shows_the_newest_event_and_runs_on() {
        let (live, file) = (Source::new("sim").unwrap(), Source::new("file").unwrap());
        let begin = Instant::now();
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut clocks = Clocks::default();
        assert_eq!(clocks.at(&live, begin), Timestamp::MIN);
        clocks.advance(&live, at(1_000), begin);
        clocks.advance(&file, at(5), begin);
        clocks.advance(&live, at(999), begin + Duration::from_secs(1));
        let later = begin + Duration::from_secs(2);
        assert_eq!((clocks.at(&live, later), clocks.at(&file, later)), (at(1_002), at(7)));
        clocks.advance(&file, at(60), later);
        assert_eq!(clocks.at(&file, later), at(60));
    }
}
