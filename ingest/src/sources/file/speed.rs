//! When each row of a replay is due.

use std::{str::FromStr, time::Duration};

use tokio::time::Instant;

/// How much faster than in reality a file is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Speed {
    /// So many times as fast.
    Times(f64),
    /// As fast as the pipeline takes it.
    Max,
}

/// A text that is no speed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a speed: `max`, or 0.001x to 1000000x, such as 1x or 60x")]
pub(super) struct SpeedError(String);

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
        match times {
            Ok(times) if (0.001..=1_000_000.0).contains(&times) => Ok(Self::Times(times)),
            _ => Err(SpeedError(text.to_owned())),
        }
    }
}

/// Event times further apart than this are not waited for: one of them is wrong.
const LONGEST_GAP_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// Turns event times into times to send at. Each is counted from the same anchor, so that what a
/// sleep is late by does not add up.
pub(super) struct Pacer {
    speed: Speed,
    anchor: Option<Anchor>,
}

struct Anchor {
    event_ms: i64,
    at: Instant,
    last_ms: i64,
}

impl Pacer {
    pub(super) fn new(speed: Speed) -> Self {
        Self { speed, anchor: None }
    }

    /// When the event is due; `None` is at once.
    pub(super) fn due(&mut self, event_ms: i64, now: Instant) -> Option<Instant> {
        let Speed::Times(times) = self.speed else { return None };
        match &mut self.anchor {
            Some(anchor) if anchor.last_ms.abs_diff(event_ms) <= LONGEST_GAP_MS => {
                anchor.last_ms = event_ms;
                let ms = event_ms.saturating_sub(anchor.event_ms);
                let wait = Duration::try_from_secs_f64(ms as f64 / 1_000.0 / times).ok()?;
                anchor.at.checked_add(wait)
            }
            anchor => {
                *anchor = Some(Anchor { event_ms, at: now, last_ms: event_ms });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        let read = |text: &str| text.parse::<Speed>();
        assert_eq!(read("max"), Ok(Speed::Max));
        assert_eq!(read("1x"), Ok(Speed::Times(1.0)));
        assert_eq!(read("60x"), Ok(Speed::Times(60.0)));
        assert_eq!(read("0.5x"), Ok(Speed::Times(0.5)));
        for text in ["", "x", "fast", "0x", "-1x", "infx", "NaN", "1e9x", "Max"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    /// Milliseconds from the start at which each event is due.
    fn dues(speed: &str, events: &[i64]) -> Vec<Option<u128>> {
        let mut pacer = Pacer::new(speed.parse().unwrap());
        let start = Instant::now();
        let due = |&event: &i64| pacer.due(event, start).map(|due| (due - start).as_millis());
        events.iter().map(due).collect()
    }

    #[test]
    fn event_time_is_divided_by_the_speed() {
        let t = 1_380_000_000_000;
        let some = |ms: &[u128]| ms.iter().map(|&ms| Some(ms)).collect::<Vec<_>>();
        assert_eq!(dues("1x", &[t, t + 5, t + 5, t + 2_000])[1..], some(&[5, 5, 2_000]));
        assert_eq!(dues("60x", &[t, t + 60_000, t + 90_000])[1..], some(&[1_000, 1_500]));
        assert_eq!(dues("max", &[t, t + 60_000]), [None, None]);
        assert_eq!(dues("1x", &[t, t - 500, t + 10])[1..], [None, Some(10)]);
    }

    #[test]
    fn a_time_that_is_wrong_is_not_waited_for() {
        let t = 1_380_000_000_000;
        for wrong in [0, i64::MAX, i64::MIN, t * 1_000] {
            assert_eq!(dues("1x", &[t, wrong, t + 20, t + 30]), [None, None, None, Some(10)]);
        }
    }
}
