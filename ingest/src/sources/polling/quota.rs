//! The quota of an account, shared by all its symbols.

use std::{collections::VecDeque, time::Duration};

use schemas::http::QuotaLeft;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So many requests in any minute and in any day, however they are laid: providers count in windows
/// of their own. It is known to this process only: after a restart the provider may refuse earlier
/// than expected, and then says so.
pub(in crate::sources) struct Quota {
    minute: Option<Window>,
    day: Option<Window>,
}

impl Quota {
    /// 0 is no limit.
    pub(in crate::sources) fn new(per_minute: u32, per_day: u32) -> Self {
        let window = |limit, length| (limit > 0).then(|| Window::new(limit, length));
        Self { minute: window(per_minute, MINUTE), day: window(per_day, DAY) }
    }

    /// When so much may be taken, if nothing else is before.
    pub(super) fn free_at(&mut self, cost: u32, now: Instant) -> Instant {
        self.windows().map(|window| window.free_at(cost, now)).max().unwrap_or(now)
    }

    /// Takes so much.
    pub(super) fn take(&mut self, cost: u32, now: Instant) {
        self.windows().for_each(|window| window.take(cost, now));
    }

    /// What is left.
    pub(super) fn left(&mut self, now: Instant) -> QuotaLeft {
        let left = |window: &mut Option<Window>| window.as_mut().map(|window| window.left(now));
        QuotaLeft { minute: left(&mut self.minute), day: left(&mut self.day) }
    }

    fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        self.minute.iter_mut().chain(&mut self.day)
    }
}

struct Window {
    limit: u32,
    length: Duration,
    taken: u32,
    /// When how much was taken, oldest first; what was taken within a thousandth of the window is
    /// counted together, as of its end, so these are some thousand at most.
    log: VecDeque<(Instant, u32)>,
}

impl Window {
    fn new(limit: u32, length: Duration) -> Self {
        Self { limit, length, taken: 0, log: VecDeque::new() }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, cost)) = self.log.front().copied()
            && at + self.length <= now
        {
            self.taken -= cost;
            self.log.pop_front();
        }
    }

    fn free_at(&mut self, cost: u32, now: Instant) -> Instant {
        self.forget(now);
        let mut excess = (self.taken.saturating_add(cost)).saturating_sub(self.limit);
        let mut free = now;
        for (at, cost) in &self.log {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(*cost);
            free = *at + self.length;
        }
        free
    }

    fn take(&mut self, cost: u32, now: Instant) {
        self.taken = self.taken.saturating_add(cost);
        let resolution = self.length / 1_000;
        match self.log.back_mut() {
            Some((at, last)) if now < *at + resolution => {
                *at = now;
                *last = last.saturating_add(cost);
            }
            _ => self.log.push_back((now, cost)),
        }
    }

    fn left(&mut self, now: Instant) -> u32 {
        self.forget(now);
        self.limit.saturating_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many requests is allowed, in seconds.
    fn allowed(quota: &mut Quota, count: usize, cost: u32) -> Vec<u64> {
        let start = Instant::now();
        let mut now = start;
        let mut at = || {
            now = quota.free_at(cost, now).max(now);
            quota.take(cost, now);
            (now - start).as_secs()
        };
        (0..count).map(|_| at()).collect()
    }

    #[test]
    fn no_minute_has_more_than_the_quota() {
        let mut quota = Quota::new(5, 0);
        assert_eq!(allowed(&mut quota, 12, 1), [0, 0, 0, 0, 0, 60, 60, 60, 60, 60, 120, 120]);
    }

    #[test]
    fn no_day_has_more_than_the_quota() {
        // What was taken within 86.4 s counts as of its end.
        let mut quota = Quota::new(2, 3);
        assert_eq!(allowed(&mut quota, 6, 1), [0, 0, 60, 86_460, 86_460, 86_520]);
    }

    #[test]
    fn a_request_may_cost_more_than_one() {
        let mut quota = Quota::new(8, 0);
        assert_eq!(allowed(&mut quota, 4, 4), [0, 0, 60, 60]);
    }

    #[test]
    fn without_a_quota_nothing_waits() {
        let mut quota = Quota::new(0, 0);
        assert_eq!(allowed(&mut quota, 3, 1), [0, 0, 0]);
        assert_eq!(quota.left(Instant::now()), QuotaLeft { minute: None, day: None });
    }

    #[test]
    fn what_is_left_comes_back() {
        let (mut quota, now) = (Quota::new(5, 7), Instant::now());
        quota.take(3, now);
        assert_eq!(quota.left(now), QuotaLeft { minute: Some(2), day: Some(4) });
        assert_eq!(quota.left(now + MINUTE), QuotaLeft { minute: Some(5), day: Some(4) });
        assert_eq!(quota.left(now + DAY), QuotaLeft { minute: Some(5), day: Some(7) });
    }

    /// The merged entries of the log never allow more than the quota in any window.
    #[test]
    fn many_requests_keep_the_log_short_and_the_quota() {
        let mut quota = Quota::new(0, 100_000);
        let start = Instant::now();
        for n in 0..100_000 {
            let now = start + Duration::from_millis(n * 10);
            assert_eq!(quota.free_at(1, now), now);
            quota.take(1, now);
        }
        let full = start + Duration::from_secs(1_000);
        assert!(quota.free_at(1, full) >= start + DAY);
        assert!(quota.day.as_ref().unwrap().log.len() <= 1_001);
    }
}
