//! What an exchange's calendar consists of, and how it is read.

use std::sync::LazyLock;

use jiff::{
    ToSpan,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};

use super::Day;

/// An exchange that trades from Monday to Friday, but for its holidays.
pub(super) struct Exchange {
    pub(super) zone: LazyLock<TimeZone>,
    pub(super) hours: Hours,
    /// On days of [`early_closes`](Self::early_closes) and
    /// [`single_early_closes`](Self::single_early_closes).
    pub(super) early_hours: Hours,
    pub(super) holidays: &'static [Yearly],
    /// Days without trading that no rule foresees.
    pub(super) single_closures: &'static [Date],
    pub(super) early_closes: &'static [Yearly],
    /// Early closes that no rule foresees.
    pub(super) single_early_closes: &'static [Date],
}

/// The bounds of a day's sessions, in the exchange's own time.
pub(super) struct Hours {
    pub(super) opens: Time,
    pub(super) open: Time,
    pub(super) close: Time,
    pub(super) closes: Time,
}

/// What comes every year, in the years from `first` to `last`.
pub(super) struct Yearly {
    pub(super) first: i16,
    pub(super) last: i16,
    pub(super) day: Rule,
}

/// A day of the year.
pub(super) enum Rule {
    /// The day, or where it is a Saturday the Friday before, or where it is a Sunday the Monday
    /// after.
    Nearest { month: i8, day: i8 },
    /// The day, or where it is a Sunday the Monday after; it is no holiday where it is a Saturday.
    SundayToMonday { month: i8, day: i8 },
    /// The day, in years in which it is one of these.
    On { month: i8, day: i8, weekdays: &'static [Weekday] },
    /// So many days after the `nth` such weekday of the month; -1 is the last.
    Nth { month: i8, nth: i8, weekday: Weekday, after: i8 },
    /// So many days after Easter Sunday.
    Easter { after: i8 },
}

/// The rule of all years.
pub(super) const fn always(day: Rule) -> Yearly {
    between(i16::MIN, i16::MAX, day)
}

/// The rule of the years from `first` to `last`.
pub(super) const fn between(first: i16, last: i16, day: Rule) -> Yearly {
    Yearly { first, last, day }
}

impl Exchange {
    /// The sessions of a date; `None` where there are none.
    pub(super) fn day(&self, date: Date) -> Option<Day> {
        let is_weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        if is_weekend || is_any(date, self.holidays, self.single_closures) {
            return None;
        }
        let early_close = is_any(date, self.early_closes, self.single_early_closes);
        let hours = if early_close { &self.early_hours } else { &self.hours };
        let at = |time: Time| self.zone.to_timestamp(date.to_datetime(time)).ok();
        Some(Day {
            date,
            opens: at(hours.opens)?,
            open: at(hours.open)?,
            close: at(hours.close)?,
            closes: at(hours.closes)?,
            early_close,
        })
    }
}

fn is_any(date: Date, yearly: &[Yearly], single: &[Date]) -> bool {
    let comes = |rule: &Yearly| {
        (rule.first..=rule.last).contains(&date.year()) && rule.day.of(date.year()) == Some(date)
    };
    single.contains(&date) || yearly.iter().any(comes)
}

impl Rule {
    /// The day in that year, if there is one.
    fn of(&self, year: i16) -> Option<Date> {
        match *self {
            Self::Nearest { month, day } => {
                let date = Date::new(year, month, day).ok()?;
                match date.weekday() {
                    Weekday::Saturday => date.yesterday().ok(),
                    Weekday::Sunday => date.tomorrow().ok(),
                    _ => Some(date),
                }
            }
            Self::SundayToMonday { month, day } => {
                let date = Date::new(year, month, day).ok()?;
                if date.weekday() == Weekday::Sunday { date.tomorrow().ok() } else { Some(date) }
            }
            Self::On { month, day, weekdays } => {
                let date = Date::new(year, month, day).ok()?;
                weekdays.contains(&date.weekday()).then_some(date)
            }
            Self::Nth { month, nth, weekday, after } => {
                let first = Date::new(year, month, 1).ok()?;
                let date = first.nth_weekday_of_month(nth, weekday).ok()?;
                date.checked_add(i64::from(after).days()).ok()
            }
            Self::Easter { after } => easter(year)?.checked_add(i64::from(after).days()).ok(),
        }
    }
}

/// Easter Sunday, by the algorithm of Meeus, Jones and Butcher (J. Meeus, Astronomical Algorithms,
/// 2nd ed., chapter 8), which holds for every year of the Gregorian calendar.
fn easter(year: i16) -> Option<Date> {
    let y = i32::from(year);
    let (golden, century, of_century) = (y % 19, y / 100, y % 100);
    let moved = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * golden + century - century / 4 - moved + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (of_century / 4) - epact - of_century % 4) % 7;
    let late = (golden + 11 * epact + 22 * weekday) / 451;
    let days = epact + weekday - 7 * late + 114;
    Date::new(year, i8::try_from(days / 31).ok()?, i8::try_from(days % 31 + 1).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn easter_sundays() {
        for (year, month, day) in [
            (1998, 4, 12),
            (2008, 3, 23),
            (2011, 4, 24),
            (2013, 3, 31),
            (2024, 3, 31),
            (2025, 4, 20),
            (2038, 4, 25),
        ] {
            assert_eq!(easter(year), Some(date(year, month, day)));
        }
    }
}
