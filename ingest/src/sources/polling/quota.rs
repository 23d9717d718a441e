//! The quota of an account.

use std::{collections::VecDeque, time::Duration};

use schemas::http::QuotaLeft;
use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);

/// So many requests in any minute, however it is laid: providers count in windows of their own.
pub(super) struct Quota {
    per_minute: usize,
    /// When the last `per_minute` requests were made, oldest first.
    taken: VecDeque<Instant>,
}

impl Quota {
    /// `per_minute` is at least 1.
    pub(super) fn per_minute(per_minute: u32) -> Self {
        let per_minute = usize::try_from(per_minute).unwrap_or(usize::MAX);
        Self { per_minute, taken: VecDeque::new() }
    }

    /// Waits until the next request is allowed, and takes it.
    pub(super) async fn take(&mut self) {
        if self.taken.len() >= self.per_minute
            && let Some(&oldest) = self.taken.front()
        {
            sleep_until(oldest + MINUTE).await;
            self.taken.pop_front();
        }
        self.taken.push_back(Instant::now());
    }

    /// What is left.
    pub(super) fn left(&self) -> QuotaLeft {
        let taken = self.taken.iter().filter(|taken| taken.elapsed() < MINUTE).count();
        let left = self.per_minute.saturating_sub(taken);
        QuotaLeft { minute: u32::try_from(left).ok(), day: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_the_quota() {
        let mut quota = Quota::per_minute(5);
        let start = Instant::now();
        let mut taken = Vec::new();
        for n in 0..12 {
            quota.take().await;
            taken.push(start.elapsed().as_secs());
            if n == 1 {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        }
        assert_eq!(quota.left().minute, Some(0));
        assert_eq!(taken, [0, 0, 20, 20, 20, 60, 60, 80, 80, 80, 120, 120]);
    }
}
