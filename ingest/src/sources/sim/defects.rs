//! What can be wrong with a tick, made on purpose: every fault that processing must catch, but the
//! one that it cannot know of, a decoder that panics.

mod rates;

use rand::{Rng, rngs::SmallRng};

pub(super) use rates::Rates;

/// How many ticks of a symbol come before a defect, at the beginning: prices to compare it with.
const FIRST_CLEAN: u32 = 20;

/// So many prices that agree are a new level to processing.
const LEVEL_SHIFT: u32 = 5;

/// A defect. Its name is in the payload, as `"defect":"<name>"`, where no decoder looks, so that a
/// test can tell what must become of it. That is told here with the rules as they are by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Defect {
    /// Flagged as `outlier`.
    PriceTimes10,
    /// Flagged as `outlier`.
    PriceTimes100,
    /// Flagged as `outlier`.
    PriceTenth,
    /// Flagged as `outlier`.
    PriceHundredth,
    /// The price of another symbol, twice as high or half as high: flagged as `outlier`.
    WrongSymbol,
    /// From here on twice the price, or half of it again: five ticks have this defect, the first four
    /// flagged as `outlier`, the fifth as `level_shift`.
    LevelShift,
    /// Rejected: `invalid_field`.
    PriceZero,
    /// Rejected: `invalid_field`.
    PriceNegative,
    /// `"N/A"`: rejected, `invalid_field`.
    PriceText,
    /// Rejected: `invalid_field`.
    SizeNegative,
    /// An hour from now: rejected, `future`.
    Future,
    /// Ten days ago: flagged as `out_of_order`, and as `stale` where `process.rules.max_age` says
    /// how old the ticks of `sim` may be.
    Old,
    /// Before the tick before it: flagged as `out_of_order`.
    OutOfOrder,
    /// Before the regular session of an earlier day in New York. Flagged as [`Old`](Self::Old) is,
    /// and as `pre_market` where `process.calendars` says `sim=XNYS`.
    PreMarket,
    /// After it; `post_market`.
    PostMarket,
    /// In the night after it; `closed`.
    Closed,
    /// Sent twice, with the same id: the second is dropped by the stream.
    Duplicate,
    /// The tick before it, told once more in a payload of its own: rejected, `duplicate`.
    Repeat,
    /// A symbol that nobody announces. Where `process.rules.unknown_symbol` is on, what it says:
    /// `unknown_symbol`.
    UnknownSymbol,
    /// A symbol that is flagged as `halted` if an operator has put it into the list of those.
    HaltedSymbol,
    /// Rejected: `missing_field`.
    MissingSymbol,
    /// Rejected: `missing_field`.
    MissingPrice,
    /// Rejected: `missing_field`.
    MissingTime,
    /// JSON that breaks off: rejected, `malformed`.
    CutOff,
    /// A page instead of JSON: rejected, `malformed`.
    Html,
    /// A provider's notice that there is no more for today: rejected, `provider_error`.
    ProviderError,
    /// A row of CSV, says its envelope, but not of which columns: rejected, `envelope`.
    NoColumns,
}

impl Defect {
    const ALL: [(&str, Self); 27] = [
        ("price-times-10", Self::PriceTimes10),
        ("price-times-100", Self::PriceTimes100),
        ("price-tenth", Self::PriceTenth),
        ("price-hundredth", Self::PriceHundredth),
        ("wrong-symbol", Self::WrongSymbol),
        ("level-shift", Self::LevelShift),
        ("price-zero", Self::PriceZero),
        ("price-negative", Self::PriceNegative),
        ("price-text", Self::PriceText),
        ("size-negative", Self::SizeNegative),
        ("future", Self::Future),
        ("old", Self::Old),
        ("out-of-order", Self::OutOfOrder),
        ("pre-market", Self::PreMarket),
        ("post-market", Self::PostMarket),
        ("closed", Self::Closed),
        ("duplicate", Self::Duplicate),
        ("repeat", Self::Repeat),
        ("unknown-symbol", Self::UnknownSymbol),
        ("halted-symbol", Self::HaltedSymbol),
        ("missing-symbol", Self::MissingSymbol),
        ("missing-price", Self::MissingPrice),
        ("missing-time", Self::MissingTime),
        ("cut-off", Self::CutOff),
        ("html", Self::Html),
        ("provider-error", Self::ProviderError),
        ("no-columns", Self::NoColumns),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, defect)| *defect == self).map_or("", |(name, _)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, defect)| *defect)
    }
}

/// Draws the defects of one symbol.
pub(super) struct Draws {
    random: SmallRng,
    /// How many ticks are to be clean.
    clean: u32,
    /// How many more have the defect `level-shift`.
    shifting: u32,
    is_doubled: bool,
}

impl Draws {
    pub(super) fn new(random: SmallRng) -> Self {
        Self { random, clean: FIRST_CLEAN, shifting: 0, is_doubled: false }
    }

    /// Whether the symbol has twice its price.
    pub(super) fn is_doubled(&self) -> bool {
        self.is_doubled
    }

    /// What is wrong with the next tick. Never two in a row, but for a new level: wrong prices that
    /// agree are one.
    pub(super) fn draw(&mut self, rates: &Rates) -> Option<Defect> {
        if self.shifting > 0 {
            self.shifting -= 1;
            return Some(Defect::LevelShift);
        }
        if self.clean > 0 {
            self.clean -= 1;
            return None;
        }
        let random = &mut self.random;
        let drawn = rates.iter().find(|(_, one_in)| random.random_ratio(1, *one_in));
        let (drawn, _) = drawn?;
        self.clean = 1;
        if drawn == Defect::LevelShift {
            self.is_doubled = !self.is_doubled;
            (self.shifting, self.clean) = (LEVEL_SHIFT - 1, FIRST_CLEAN);
        }
        Some(drawn)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(rules: &[&str], count: usize) -> Vec<Option<Defect>> {
        let rules: Vec<_> = rules.iter().map(|&rule| rule.to_owned()).collect();
        let rates = Rates::read(&rules).unwrap();
        let mut draws = Draws::new(SmallRng::seed_from_u64(1));
        (0..count).map(|_| draws.draw(&rates)).collect()
    }

    #[test]
    fn defects_are_as_often_as_they_should_be_and_never_two_in_a_row() {
        let drawn = drawn(&["html=4"], 10_000);
        assert!(drawn[..20].iter().all(Option::is_none));
        assert!(drawn.windows(2).all(|pair| pair[0].is_none() || pair[1].is_none()));
        // One in four of those that may be: at 1 of 5 ticks.
        let count = drawn.iter().flatten().count();
        assert!((1_800..2_200).contains(&count), "{count}");
    }

    #[test]
    fn a_new_level_is_told_of_five_times() {
        let drawn = drawn(&["level-shift=1"], 200);
        let shifts: Vec<_> = drawn.chunk_by(|a, b| a == b).collect();
        assert!(shifts.len() > 10);
        for pair in shifts.chunks_exact(2) {
            assert_eq!(pair[0], [None; FIRST_CLEAN as usize]);
            assert!(pair[1] == [Some(Defect::LevelShift); LEVEL_SHIFT as usize]);
        }
    }

    #[test]
    fn none_is_drawn_where_none_is_wanted() {
        assert!(drawn(&[], 1_000).iter().all(Option::is_none));
    }
}
