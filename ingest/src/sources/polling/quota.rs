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

    /// Of so many symbols that it is for, so many are ours; the others are fetched by instances that
    /// know nothing of what we take. A request takes `largest` at most.
    ///
    /// What we have more than before is ours to take when what another may have taken of it is a
    /// minute old. Of a day's quota each knows only what it has taken itself.
    pub(super) fn share(&mut self, (ours, all): (usize, usize), largest: u32, now: Instant) {
        if let Some(minute) = &mut self.minute {
            let growth = minute.share(ours, all, largest);
            minute.grown(growth, now);
        }
        if let Some(day) = &mut self.day {
            day.share(ours, all, largest);
        }
    }

    /// Nothing of it is ours for now.
    pub(super) fn rest(&mut self) {
        self.windows().for_each(|window| window.had = Some(0));
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
    /// What the account has, in how much time.
    whole: (u32, Duration),
    /// What is ours of that.
    limit: u32,
    /// What was ours when it was last shared, if it ever was.
    had: Option<u32>,
    /// So much of it is ours only from then on.
    later: Option<(Instant, u32)>,
    length: Duration,
    taken: u32,
    /// When how much was taken, oldest first; what was taken within a thousandth of the window is
    /// counted together, as of its end, so these are some thousand at most.
    log: VecDeque<(Instant, u32)>,
}

impl Window {
    fn new(limit: u32, length: Duration) -> Self {
        Self {
            whole: (limit, length),
            limit,
            had: None,
            later: None,
            length,
            taken: 0,
            log: VecDeque::new(),
        }
    }

    /// Whoever has too little for a request in the time has it in a longer time. Returns by how much
    /// there is more than before: who begins with all of it need not think of others.
    fn share(&mut self, ours: usize, all: usize, largest: u32) -> u32 {
        let (limit, length) = self.whole;
        let all = all.max(1) as u64;
        let part = u64::from(limit) * (ours as u64).clamp(1, all);
        let allowed = u32::try_from(part / all).unwrap_or(limit);
        self.limit = allowed.max(largest.min(limit)).max(1);
        self.length = match self.limit > allowed {
            true => length.mul_f64((u64::from(self.limit) * all) as f64 / part as f64),
            false => length,
        };
        let is_new = self.had.is_none() && ours as u64 >= all;
        let before = self.had.replace(self.limit).unwrap_or(0);
        if is_new { 0 } else { self.limit.saturating_sub(before) }
    }

    /// So much of it was another's until now.
    fn grown(&mut self, growth: u32, now: Instant) {
        if growth > 0 {
            let not_yet = self.not_yet(now).map_or(0, |(_, not_yet)| not_yet);
            self.later = Some((now + self.whole.1, growth.saturating_add(not_yet)));
        }
    }

    fn not_yet(&self, now: Instant) -> Option<(Instant, u32)> {
        self.later.filter(|(from, _)| now < *from)
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
        let free = self.free_within(self.limit, cost, now);
        let Some((from, not_yet)) = self.not_yet(now) else { return free };
        let limit = self.limit.saturating_sub(not_yet);
        let sooner = if cost <= limit { self.free_within(limit, cost, now) } else { from };
        sooner.min(free.max(from))
    }

    fn free_within(&self, limit: u32, cost: u32, now: Instant) -> Instant {
        let mut excess = (self.taken.saturating_add(cost)).saturating_sub(limit);
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
        let not_yet = self.not_yet(now).map_or(0, |(_, not_yet)| not_yet);
        self.limit.saturating_sub(self.taken.saturating_add(not_yet))
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

    #[tokio::test(start_paused = true)]
    async fn a_share_is_as_much_less_and_begins_a_minute_after_another_may_have_taken_it() {
        let shared = |ours, largest, count| {
            let mut quota = Quota::new(8, 0);
            quota.share((ours, 8), largest, Instant::now());
            allowed(&mut quota, count, largest)
        };
        assert_eq!(shared(4, 1, 6), [60, 60, 60, 60, 120, 120]);
        assert_eq!(shared(1, 1, 3), [60, 120, 180]);
        // A request takes 8, and an eighth of that is allowed a minute.
        assert_eq!(shared(1, 8, 3), [60, 540, 1_020]);
        assert_eq!(shared(8, 8, 3), [0, 60, 120]);
        let mut small = Quota::new(2, 0);
        small.share((1, 8), 1, Instant::now());
        assert_eq!(allowed(&mut small, 3, 1), [60, 300, 540]);
    }

    /// Each takes what it may as soon as it may, while they come and go.
    #[test]
    fn in_no_minute_do_instances_take_more_than_the_account_has() {
        const LIMIT: u32 = 16;
        let start = Instant::now();
        // When whose share of eight slices is how large from then on.
        let shares: [(u64, [usize; 3]); 6] = [
            (0, [8, 0, 0]),
            (100, [4, 4, 0]),
            (130, [3, 3, 2]),
            (150, [0, 5, 3]),
            (155, [0, 0, 8]),
            (400, [4, 0, 4]),
        ];
        let mut quotas = [(); 3].map(|()| Quota::new(LIMIT, 0));
        let mut now_ours = [0; 3];
        let mut taken = Vec::new();
        for second in 0..700 {
            let now = start + Duration::from_secs(second);
            if let Some((_, shares)) = shares.iter().find(|(from, _)| *from == second) {
                now_ours = *shares;
            }
            for (quota, ours) in quotas.iter_mut().zip(now_ours) {
                if ours == 0 {
                    quota.rest();
                    continue;
                }
                quota.share((ours, 8), 1, now);
                while quota.free_at(1, now) <= now {
                    quota.take(1, now);
                    taken.push(second);
                }
            }
        }
        for minute in 0..640 {
            let count = taken.iter().filter(|at| (minute..minute + 60).contains(*at)).count();
            assert!(count <= LIMIT as usize, "{count} in the minute from {minute} on");
            let is_moving = (40..280).contains(&minute) || (340..520).contains(&minute);
            assert!(is_moving || count >= LIMIT as usize - 2, "{count} from {minute} on");
        }
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
