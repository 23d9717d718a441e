//! How much one client may say.

use std::time::Duration;

use tokio::time::Instant;

/// So many messages may be said at once as the long run allows in this time.
const BURST: Duration = Duration::from_secs(10);

/// A bucket of messages that fills up again with time, kept as one moment (the generic cell rate
/// algorithm): when it will be full.
#[derive(Debug)]
pub(super) struct Allowance {
    /// The time in which one more message is allowed.
    each: Duration,
    full_at: Instant,
}

impl Allowance {
    /// So many messages a second in the long run, and ten times as many at once.
    pub(super) fn new(per_second: u32) -> Self {
        Self { each: Duration::from_secs(1) / per_second.max(1), full_at: Instant::now() }
    }

    /// Takes one message; false where there is none left.
    pub(super) fn take(&mut self) -> bool {
        let now = Instant::now();
        let full_at = self.full_at.max(now) + self.each;
        let is_allowed = full_at <= now + BURST;
        if is_allowed {
            self.full_at = full_at;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_the_long_run() {
        let mut allowance = Allowance::new(5);
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 50);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 5);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 50);
    }
}
