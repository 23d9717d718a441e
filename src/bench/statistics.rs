//! What several measurements say together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The middle of some measurements and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of nothing it is all zeros.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { median, least: at(0), greatest: at(last) }
    }
}

/// How long something took, of many times; in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// How many times there were.
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) greatest_ms: f64,
}

impl Quantiles {
    /// Sorts the samples and reads the quantiles off; of nothing they are zero.
    pub(crate) fn of(samples: &mut [Duration]) -> Self {
        samples.sort_unstable();
        let count = samples.len();
        let at = |percent: usize| {
            let place = (count * percent / 100).min(count.saturating_sub(1));
            samples.get(place).map_or(0.0, |sample| sample.as_secs_f64() * 1e3)
        };
        Self { count, p50_ms: at(50), p99_ms: at(99), greatest_ms: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, greatest: 4.0 });
        assert_eq!(Spread::of([7.0, 9.0, 8.0]).median, 8.0);
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[test]
    fn quantiles_are_samples() {
        let mut samples: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        let quantiles = Quantiles::of(&mut samples);
        assert_eq!(
            (quantiles.p50_ms, quantiles.p99_ms, quantiles.greatest_ms),
            (101.0, 199.0, 200.0)
        );
        assert_eq!(Quantiles::of(&mut []), Quantiles::default());
    }
}
