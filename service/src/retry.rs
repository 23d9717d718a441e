//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng;

/// Exponential backoff with full jitter: each wait is anything up to a bound that doubles. See
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    bound: Duration,
}

impl Backoff {
    /// From `first` on, doubling, never above `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, bound: first }
    }

    /// How long to wait now; the next wait may be twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.bound.mul_f64(rand::rng().random_range(0.0..=1.0));
        self.bound = (self.bound * 2).min(self.longest);
        delay
    }

    /// It worked: start anew.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_anew() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(450));
        let mut backoff = Backoff::new(first, longest);
        for bound in [100, 200, 400, 450, 450] {
            assert!(backoff.next_delay() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.next_delay() <= first);
    }
}
