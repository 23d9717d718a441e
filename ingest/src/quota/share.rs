//! Our share of a quota, by our share of the symbols, as far as we know ourselves what we took.

use std::{collections::VecDeque, time::Duration};

use schemas::http::QuotaLeft;
use tokio::time::Instant;

use super::free_at;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So much in any minute and in any day, however they are laid.
pub(super) struct Share {
    minute: Option<Window>,
    day: Option<Window>,
    /// Of so many symbols that it is for, so many are ours.
    part: (usize, usize),
}

impl Share {
    /// All of it; 0 is no limit.
    pub(super) fn new(per_minute: u32, per_day: u32) -> Self {
        let window = |limit, length| (limit > 0).then(|| Window::new(limit, length));
        Self { minute: window(per_minute, MINUTE), day: window(per_day, DAY), part: (1, 1) }
    }

    /// Of so many symbols that it is for, so many are ours. A request takes `largest` at most.
    pub(super) fn set(&mut self, (ours, all): (usize, usize), largest: u32) {
        self.part = (ours, all);
        self.windows().for_each(|window| window.share(ours, all, largest));
    }

    /// Whether nobody else has a part.
    pub(super) fn is_whole(&self) -> bool {
        let (ours, all) = self.part;
        ours >= all
    }

    /// Our part of so much.
    pub(super) fn part(&self, whole: u32) -> u32 {
        let (ours, all) = self.part;
        let part = u64::from(whole) * ours as u64 / all.max(1) as u64;
        u32::try_from(part).map_or(whole, |part| part.min(whole))
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
    pub(super) fn left(&self, now: Instant) -> QuotaLeft {
        let left = |window: &Option<Window>| window.as_ref().map(|window| window.left(now));
        QuotaLeft { minute: left(&self.minute), day: left(&self.day) }
    }

    /// What is left at that time, if nothing is taken until then.
    pub(super) fn left_at(&self, at: Instant) -> u32 {
        let QuotaLeft { minute, day } = self.left(at);
        minute.into_iter().chain(day).min().unwrap_or(u32::MAX)
    }

    fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        self.minute.iter_mut().chain(&mut self.day)
    }
}

struct Window {
    /// What the account has, in how much time.
    whole: (u32, Duration),
    /// What is ours of that.
    limit: u32,
    length: Duration,
    taken: u32,
    /// When how much was taken, oldest first; what was taken within a thousandth of the window is
    /// counted together, as of its end, so these are some thousand at most.
    log: VecDeque<(Instant, u32)>,
}

impl Window {
    fn new(limit: u32, length: Duration) -> Self {
        Self { whole: (limit, length), limit, length, taken: 0, log: VecDeque::new() }
    }

    /// Whoever has too little for a request in the time has it in a longer time.
    fn share(&mut self, ours: usize, all: usize, largest: u32) {
        let (limit, length) = self.whole;
        let all = all.max(1) as u64;
        let part = u64::from(limit) * (ours as u64).clamp(1, all);
        let allowed = u32::try_from(part / all).unwrap_or(limit);
        self.limit = allowed.max(largest.min(limit)).max(1);
        self.length = match self.limit > allowed {
            true => length.mul_f64((u64::from(self.limit) * all) as f64 / part as f64),
            false => length,
        };
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
        let excess = (self.taken.saturating_add(cost)).saturating_sub(self.limit);
        let leaving = self.log.iter().map(|(at, cost)| (*at + self.length, *cost));
        free_at(excess, leaving, now)
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

    fn left(&self, now: Instant) -> u32 {
        let gone = self.log.iter().take_while(|(at, _)| *at + self.length <= now);
        let gone = gone.fold(0, |sum: u32, (_, cost)| sum.saturating_add(*cost));
        self.limit.saturating_sub(self.taken.saturating_sub(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many requests is allowed, in seconds.
    fn allowed(share: &mut Share, count: usize, cost: u32) -> Vec<u64> {
        let start = Instant::now();
        let mut now = start;
        let mut at = || {
            now = share.free_at(cost, now).max(now);
            share.take(cost, now);
            (now - start).as_secs()
        };
        (0..count).map(|_| at()).collect()
    }

    #[test]
    fn no_minute_has_more_than_the_quota() {
        let mut share = Share::new(5, 0);
        assert_eq!(allowed(&mut share, 12, 1), [0, 0, 0, 0, 0, 60, 60, 60, 60, 60, 120, 120]);
    }

    #[test]
    fn no_day_has_more_than_the_quota() {
        // What was taken within 86.4 s counts as of its end.
        let mut share = Share::new(2, 3);
        assert_eq!(allowed(&mut share, 6, 1), [0, 0, 60, 86_460, 86_460, 86_520]);
    }

    #[test]
    fn a_request_may_cost_more_than_one() {
        let mut share = Share::new(8, 0);
        assert_eq!(allowed(&mut share, 4, 4), [0, 0, 60, 60]);
    }

    #[test]
    fn a_share_is_as_much_less() {
        let shared = |ours, largest, count| {
            let mut share = Share::new(8, 0);
            share.set((ours, 8), largest);
            allowed(&mut share, count, largest)
        };
        assert_eq!(shared(4, 1, 6), [0, 0, 0, 0, 60, 60]);
        assert_eq!(shared(1, 1, 3), [0, 60, 120]);
        // A request takes 8, and an eighth of that is allowed a minute.
        assert_eq!(shared(1, 8, 3), [0, 480, 960]);
        assert_eq!(shared(8, 8, 3), [0, 60, 120]);
        let mut small = Share::new(2, 0);
        small.set((1, 8), 1);
        assert_eq!(allowed(&mut small, 3, 1), [0, 240, 480]);
        assert_eq!([small.part(2), small.part(8), small.part(u32::MAX)], [0, 1, u32::MAX / 8]);
    }

    #[test]
    fn without_a_quota_nothing_waits() {
        let mut share = Share::new(0, 0);
        assert_eq!(allowed(&mut share, 3, 1), [0, 0, 0]);
        assert_eq!(share.left(Instant::now()), QuotaLeft { minute: None, day: None });
    }

    #[test]
    fn what_is_left_comes_back() {
        let (mut share, now) = (Share::new(5, 7), Instant::now());
        share.take(3, now);
        assert_eq!(share.left(now), QuotaLeft { minute: Some(2), day: Some(4) });
        assert_eq!(share.left(now + MINUTE), QuotaLeft { minute: Some(5), day: Some(4) });
        assert_eq!(share.left(now + DAY), QuotaLeft { minute: Some(5), day: Some(7) });
    }

    /// The merged entries of the log never allow more than the quota in any window.
    #[test]
    fn many_requests_keep_the_log_short_and_the_quota() {
        let mut share = Share::new(0, 100_000);
        let start = Instant::now();
        for n in 0..100_000 {
            let now = start + Duration::from_millis(n * 10);
            assert_eq!(share.free_at(1, now), now);
            share.take(1, now);
        }
        let full = start + Duration::from_secs(1_000);
        assert!(share.free_at(1, full) >= start + DAY);
        assert!(share.day.as_ref().unwrap().log.len() <= 1_001);
    }
}
