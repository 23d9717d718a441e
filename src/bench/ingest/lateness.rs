//! Whether polls come on time.

use std::time::Duration;

use tokio::time::Instant;

/// How much later than after `interval` each request came than the one before it, and how much later
/// the one is by `end` that did not come.
pub(super) fn of(asked: &[Instant], interval: Duration, end: Instant) -> Vec<Duration> {
    let late = |from: Instant, to: Instant| (to - from).saturating_sub(interval);
    let mut lateness: Vec<_> = asked.windows(2).map(|pair| late(pair[0], pair[1])).collect();
    let missing = asked.last().map(|last| late(*last, end)).filter(|late| !late.is_zero());
    lateness.extend(missing);
    lateness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_soon_is_not_late_and_what_does_not_come_is() {
        let start = Instant::now();
        let late = |asked: &[u64], end: u64| -> Vec<u64> {
            let at = |secs: &u64| start + Duration::from_secs(*secs);
            let asked: Vec<_> = asked.iter().map(at).collect();
            let late = of(&asked, Duration::from_secs(10), at(&end));
            late.iter().map(Duration::as_secs).collect()
        };
        assert_eq!(late(&[0, 10, 23, 30], 35), [0, 3, 0]);
        assert_eq!(late(&[0, 10], 30), [0, 10]);
        assert_eq!(late(&[], 30), [0; 0]);
    }
}
