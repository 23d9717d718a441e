//! When a connection takes live ticks out of its outbox.

use std::time::Duration;

use tokio::time::Instant;

/// At most one update per symbol in a time, always the newest.
///
/// All that waits when the time has passed is sent, once; then the time runs anew. An outbox that
/// conflates holds one tick per symbol, so no symbol is sent twice in between.
#[derive(Debug)]
pub(crate) struct Conflation {
    /// Zero is none.
    every: Duration,
    /// How much of what waited when the time had passed is still to be taken.
    due: usize,
    /// When the time has passed.
    next: Instant,
}

impl Conflation {
    /// Every tick, at once.
    pub(crate) fn none() -> Self {
        Self { every: Duration::ZERO, due: 0, next: Instant::now() }
    }

    /// From now on at most one in `every`; zero is no conflation.
    pub(crate) fn set(&mut self, every: Duration) {
        *self = Self { every, due: 0, next: Instant::now() };
    }

    /// Does every tick go at once?
    pub(crate) fn is_none(&self) -> bool {
        self.every.is_zero()
    }

    /// Some prices were sent past the outbox: the time runs from here.
    pub(crate) fn sent(&mut self) {
        self.next = Instant::now() + self.every;
    }

    /// How many of the `waiting` ticks may be taken now.
    pub(crate) fn may_take(&mut self, waiting: usize) -> usize {
        if self.every.is_zero() {
            return waiting;
        }
        if self.due == 0 && Instant::now() >= self.next {
            self.due = waiting;
        }
        self.due = self.due.min(waiting);
        self.due
    }

    /// So many were taken.
    pub(crate) fn took(&mut self, count: usize) {
        self.due = self.due.saturating_sub(count);
        if count > 0 && self.due == 0 {
            self.sent();
        }
    }

    /// Until when nothing may be taken.
    pub(crate) fn wait(&self) -> Option<Instant> {
        (self.due == 0 && !self.every.is_zero() && self.next > Instant::now()).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waited_is_taken_once_in_a_time() {
        let mut conflation = Conflation::none();
        assert_eq!(conflation.may_take(9), 9);
        conflation.set(Duration::from_millis(50));
        assert_eq!(conflation.may_take(3), 3);
        conflation.took(2);
        // Five wait by now, but four of them have only come since.
        assert_eq!(conflation.may_take(5), 1);
        conflation.took(1);
        assert_eq!(conflation.may_take(4), 0);
        tokio::time::sleep_until(conflation.wait().unwrap()).await;
        assert_eq!(conflation.may_take(4), 4);
        assert_eq!(conflation.wait(), None);
    }
}
