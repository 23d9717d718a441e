//! What a rule remembers of the ticks before, and how it compares. Exact: a number that does not fit
//! is not judged.

use std::{cmp::Ordering, collections::VecDeque};

use rust_decimal::Decimal as Number;
use schemas::{
    Decimal,
    alert::{Condition, Measure, VolumeBound, Window},
};
use serde::{Deserialize, Serialize};

use super::tick::Tick;

/// In how many parts a window of a change is cut: the price at its begin is the last one of the part
/// it begins in.
const PARTS: i64 = 60;

/// How many significant digits numbers have that are shown but not compared.
const SHOWN_DIGITS: u32 = 12;

/// What a rule remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// For a change: the last price of each part of the window, with the number of the part. At most
    /// some more than [`PARTS`].
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    prices: VecDeque<(i64, Decimal)>,
    /// For a volume: what was traded in the newest windows with trades, with the number of the
    /// window; the last is the one that runs. At most one more than are averaged.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    volumes: VecDeque<(i64, Decimal)>,
}

/// What a tick says about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: too little is known yet, or it is of no concern.
    Silent,
    /// It holds, or not.
    Judged(Measured),
    /// A number does not fit.
    Inexact,
}

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) holds: bool,
    /// It did not hold for a moment since the last tick, because another window has begun.
    pub(super) is_anew: bool,
    pub(super) value: Decimal,
    pub(super) bound: Decimal,
}

impl Memory {
    /// Takes a tick in; what it says.
    pub(super) fn take(&mut self, tick: &Tick, condition: &Condition) -> Verdict {
        let holds = |value: &Decimal, bound: &Decimal| condition.comparison.holds(value.cmp(bound));
        match &condition.measure {
            Measure::Price { bound } => Verdict::Judged(Measured {
                holds: holds(&tick.price, bound),
                is_anew: false,
                value: tick.price,
                bound: *bound,
            }),
            Measure::Change { window, bound } => match self.before(tick, *window) {
                Some(before) => change(before, tick.price, *bound)
                    .map(|(ordering, value)| Measured {
                        holds: condition.comparison.holds(ordering),
                        is_anew: false,
                        value,
                        bound: *bound,
                    })
                    .map_or(Verdict::Inexact, Verdict::Judged),
                None => Verdict::Silent,
            },
            Measure::Volume { window, bound } => {
                let Some(size) = tick.traded() else { return Verdict::Silent };
                let kept = match bound {
                    VolumeBound::Size(_) => 1,
                    VolumeBound::Average { windows, .. } => usize::from(*windows) + 1,
                };
                let Some(is_anew) = self.add(tick, size, *window, kept) else {
                    return Verdict::Inexact;
                };
                let Some((_, volume)) = self.volumes.back() else { return Verdict::Silent };
                let measured = |holds, bound| Measured { holds, is_anew, value: *volume, bound };
                match bound {
                    VolumeBound::Size(size) => {
                        Verdict::Judged(measured(holds(volume, size), *size))
                    }
                    VolumeBound::Average { .. } if self.volumes.len() < kept => Verdict::Silent,
                    VolumeBound::Average { factor, windows } => self
                        .against_average(*factor, *windows)
                        .map(|(ordering, bound)| {
                            measured(condition.comparison.holds(ordering), bound)
                        })
                        .map_or(Verdict::Inexact, Verdict::Judged),
                }
            }
        }
    }

    /// Remembers the price of a tick; the price a window before it. `None` where it is not known, or
    /// where the tick is late.
    fn before(&mut self, tick: &Tick, window: Window) -> Option<Decimal> {
        let ms = tick.ts.as_millisecond();
        let length = window.milliseconds() / PARTS;
        let part = ms.div_euclid(length);
        match self.prices.back_mut() {
            Some((newest, _)) if *newest > part => return None,
            Some((newest, price)) if *newest == part => *price = tick.price,
            _ => self.prices.push_back((part, tick.price)),
        }
        let begin = (ms - window.milliseconds()).div_euclid(length);
        while self.prices.get(1).is_some_and(|(part, _)| *part <= begin) {
            self.prices.pop_front();
        }
        self.prices.front().filter(|(part, _)| *part <= begin).map(|(_, price)| *price)
    }

    /// Adds to the window of a trade, if it is one of the `kept` newest. Whether that is a new one;
    /// `None` where the sum does not fit.
    fn add(&mut self, tick: &Tick, size: Decimal, window: Window, kept: usize) -> Option<bool> {
        let number = tick.ts.as_millisecond().div_euclid(window.milliseconds());
        if self.volumes.back().is_none_or(|(newest, _)| *newest < number) {
            self.volumes.push_back((number, size));
            if self.volumes.len() > kept {
                self.volumes.pop_front();
            }
            return Some(true);
        }
        if let Some((_, sum)) = self.volumes.iter_mut().rev().find(|(known, _)| *known == number) {
            *sum = sum.exact_add(size)?;
        }
        Some(false)
    }

    /// The volume of the running window against so many times the average of those before it, and
    /// that multiple, to be shown. Nothing is divided where it counts.
    fn against_average(&self, factor: Decimal, windows: u8) -> Option<(Ordering, Decimal)> {
        let count = Decimal::from(Number::from(windows));
        let mut before = self.volumes.iter().take(usize::from(windows));
        let sum = before.try_fold(Decimal::ZERO, |sum, (_, volume)| sum.exact_add(*volume))?;
        let (_, volume) = self.volumes.back()?;
        let multiple = sum.exact_mul(factor)?;
        let ordering = volume.exact_mul(count)?.cmp(&multiple);
        Some((ordering, multiple.ratio(count, SHOWN_DIGITS)?))
    }
}

/// A change in per cent against a bound, and the change itself, to be shown. Nothing is divided where
/// it counts: (now − before) × 100 ÷ before compares with the bound as now × 100 does with
/// before × (100 + bound), for a price is greater than zero.
fn change(before: Decimal, now: Decimal, bound: Decimal) -> Option<(Ordering, Decimal)> {
    let hundred = Decimal::from(Number::ONE_HUNDRED);
    let now = now.exact_mul(hundred)?;
    let ordering = now.cmp(&before.exact_mul(hundred.exact_add(bound)?)?);
    let value = now.ratio(before, SHOWN_DIGITS)?.exact_add(Decimal::from(-Number::ONE_HUNDRED))?;
    Some((ordering, value))
}
