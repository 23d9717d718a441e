//! When a price is too far from those before it.
//!
//! The filter is that of Hampel ("The influence curve and its role in robust estimation", J. Amer.
//! Statist. Assoc. 69, 1974), on the logarithms of the newest accepted prices of a symbol: their
//! median says where the price is, the median of the distances to it (MAD, times 1.4826 to be a
//! standard deviation of normal data) how much it moves. Half of the window can be wrong and
//! neither is. As in the filter of Brownlees and Gallo ("Financial econometric analysis at ultra-
//! high frequency", Comput. Statist. Data Anal. 51, 2006) a granularity is added to it, because
//! quiet prices stand still and their MAD with them; here it is a share of the price, and it grows
//! with the square root of the time since the last accepted price, as the spread of a random walk
//! does, so that the first price after a night may be further away.
//!
//! An outlier never enters the window. A real change of level, as by a split, is followed all the
//! same: the price that [`CONFIRMATIONS`] outliers in a row agree upon is the new level, and so is
//! whatever comes when no price was accepted for [`LAPSES_AFTER_HOURS`].
//!
//! Binary floats are for these statistics only. No price comes out of here.

use jiff::Timestamp;

/// How many accepted prices the estimate rests on, at most.
pub(super) const WINDOW: usize = 15;

/// How many outliers in a row, the newest included, make a new level.
pub(super) const CONFIRMATIONS: usize = 5;

/// How old the newest accepted price may be to say anything against another one. The longest that
/// exchanges are closed for, over a weekend with a holiday, is some 90 hours.
const LAPSES_AFTER_HOURS: f64 = 96.0;

/// How many standard deviations away a price may be.
const DEVIATIONS: f64 = 8.0;

/// How much further after an hour without a price: a share of the price.
const DRIFT_PER_SQRT_HOUR: f64 = 0.01;

/// What no movement allows: a price half as large again, or a third smaller. A decimal point in the
/// wrong place is always further away.
const MAX_BAND: f64 = 0.405;

/// Makes the standard deviation of normal data of their MAD.
const MAD_TO_DEVIATION: f64 = 1.482_6;

/// Where the price is, and how far from there the next may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    /// The logarithm of the price.
    pub(super) level: f64,
    /// A distance of logarithms.
    pub(super) band: f64,
    /// It is too old to keep a price out.
    pub(super) has_lapsed: bool,
}

/// Judges from the logarithms of the newest accepted prices, at most [`WINDOW`] of them; `None`
/// where there are none. `newest` is when the newest of them happened.
pub(super) fn estimate(
    accepted: impl Iterator<Item = f64>,
    newest: Timestamp,
    now: Timestamp,
    granularity: f64,
) -> Option<Estimate> {
    let mut room = [0.0; WINDOW];
    let mut count = 0;
    for (place, price) in room.iter_mut().zip(accepted) {
        *place = price;
        count += 1;
    }
    let window = room.get_mut(..count)?;
    let level = median(window)?;
    for price in window.iter_mut() {
        *price = (*price - level).abs();
    }
    let deviation = MAD_TO_DEVIATION * median(window)?;
    let hours = now.duration_since(newest).as_secs_f64().max(0.0) / 3_600.0;
    let band = granularity.max(DEVIATIONS * deviation) + DRIFT_PER_SQRT_HOUR * hours.sqrt();
    Some(Estimate { level, band: band.min(MAX_BAND), has_lapsed: hours > LAPSES_AFTER_HOURS })
}

impl Estimate {
    pub(super) fn allows(self, price: f64) -> bool {
        (price - self.level).abs() <= self.band
    }
}

/// The median of a list, which is sorted by it; `None` of an empty one.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    match values.len() % 2 {
        1 => Some(upper),
        _ => Some(values.get(middle.checked_sub(1)?)?.midpoint(upper)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn of(prices: &[f64], age_secs: i64) -> Estimate {
        let logarithms = prices.iter().map(|price| price.ln());
        estimate(logarithms, at(0), at(age_secs), 0.03).unwrap()
    }

    #[test]
    fn without_a_price_there_is_no_estimate() {
        assert_eq!(estimate(std::iter::empty(), at(0), at(0), 0.03), None);
    }

    #[test]
    fn quiet_prices_allow_the_granularity() {
        let estimate = of(&[100.0; 15], 0);
        assert!(estimate.allows(103_f64.ln()) && estimate.allows(97.1_f64.ln()));
        assert!(!estimate.allows(103.1_f64.ln()) && !estimate.allows(96.9_f64.ln()));
    }

    #[test]
    fn restless_prices_allow_more() {
        let estimate = of(&[0.05, 0.06, 0.05, 0.06, 0.07, 0.05, 0.06], 0);
        assert!(estimate.allows(0.08_f64.ln()));
        assert!(!estimate.allows(0.6_f64.ln()));
    }

    #[test]
    fn wrong_prices_in_the_window_do_not_move_it() {
        let right = of(&[100.0, 100.1, 100.2, 100.1, 100.0], 0);
        let spoilt = of(&[100.0, 100.1, 10_000.0, 100.1, 1.0], 0);
        assert_eq!(right.level, spoilt.level);
        assert!(!spoilt.allows(1_000_f64.ln()) && !spoilt.allows(10_f64.ln()));
    }

    #[test]
    fn after_a_night_more_is_allowed_but_no_wrong_decimal_point_ever() {
        assert!(!of(&[100.0; 15], 1).allows(105_f64.ln()));
        assert!(of(&[100.0; 15], 17 * 3_600).allows(105_f64.ln()));
        let years = of(&[100.0, 1.0, 5.0, 70.0], 100_000_000);
        assert!(years.band <= MAX_BAND);
        assert!((MAX_BAND..std::f64::consts::LN_10).contains(&years.band));
        assert!(of(&[100.0; 15], -50).band <= 0.03, "a clock that goes back allows no more");
        // From Thursday, 13:00, to Monday, 9:30, as around Christmas 2026.
        assert!(!of(&[100.0; 15], 92 * 3_600 + 1_800).has_lapsed);
        assert!(of(&[100.0; 15], 97 * 3_600).has_lapsed);
    }
}
