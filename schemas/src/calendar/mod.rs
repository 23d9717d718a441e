//! When exchanges trade: sessions, holidays and early closes, as data.
//!
//! An exchange is a table ([`exchange::Exchange`]): its hours, its holidays by rule, and the days
//! that no rule foresees. [`us_equities`] is one; what trades without a pause needs none.

mod exchange;
mod sources;
mod us_equities;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

pub use sources::{CalendarError, Calendars};

/// The calendars there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Calendar {
    /// Day and night, as coins are traded. A day is one of UTC, and all of it is regular.
    Always,
    /// NYSE, Nasdaq and the other exchanges for equities of the United States, which keep the same
    /// days and hours.
    UsEquities,
}

/// The part of a trading day that a time falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before the regular session.
    Pre,
    /// The regular session.
    Regular,
    /// After the regular session.
    Post,
    /// Night, weekend, holiday.
    Closed,
}

/// A time as an exchange sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The date in the exchange's own time zone.
    pub date: Date,
    /// The part of that day.
    pub phase: Phase,
}

/// A day on which is traded. Each bound belongs to what begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// In the exchange's own time zone.
    pub date: Date,
    /// When the time before the regular session begins.
    pub opens: Timestamp,
    /// When the regular session begins.
    pub open: Timestamp,
    /// When the regular session ends.
    pub close: Timestamp,
    /// When the time after the regular session ends.
    pub closes: Timestamp,
    /// The regular session ends earlier than on other days.
    pub early_close: bool,
}

impl Day {
    /// The phase of a time of this day.
    pub fn phase(&self, ts: Timestamp) -> Phase {
        if ts < self.opens || ts >= self.closes {
            Phase::Closed
        } else if ts < self.open {
            Phase::Pre
        } else if ts < self.close {
            Phase::Regular
        } else {
            Phase::Post
        }
    }
}

impl Calendar {
    /// As in the configuration: `24/7`, or the market identifier code (ISO 10383) of the exchange.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "24/7",
            Self::UsEquities => "XNYS",
        }
    }

    /// The calendar of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Always, Self::UsEquities].into_iter().find(|calendar| calendar.as_str() == name)
    }

    /// The date and the phase of a time.
    pub fn at(self, ts: Timestamp) -> Moment {
        let date = self.date(ts);
        let phase = self.day(date).map_or(Phase::Closed, |day| day.phase(ts));
        Moment { date, phase }
    }

    /// When a date begins and ends in the exchange's own time zone: 23, 24 or 25 hours.
    ///
    /// At the ends of time, in the years -9999 and 9999, what lies outside is cut off.
    pub fn span(self, date: Date) -> (Timestamp, Timestamp) {
        let zone = self.zone();
        let midnight = |date: Date| zone.to_timestamp(date.into()).ok();
        (
            midnight(date).unwrap_or(Timestamp::MIN),
            date.tomorrow().ok().and_then(midnight).unwrap_or(Timestamp::MAX),
        )
    }

    /// The date of a time, in the exchange's own time zone.
    pub fn date(self, ts: Timestamp) -> Date {
        self.zone().to_datetime(ts).date()
    }

    /// The sessions of a date; `None` is a weekend, a holiday or another day without trading.
    pub fn day(self, date: Date) -> Option<Day> {
        match self {
            Self::Always => {
                let (open, close) = self.span(date);
                Some(Day { date, opens: open, open, close, closes: close, early_close: false })
            }
            Self::UsEquities => us_equities::EXCHANGE.day(date),
        }
    }

    fn zone(self) -> TimeZone {
        match self {
            Self::Always => TimeZone::UTC,
            Self::UsEquities => us_equities::EXCHANGE.zone.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn phase(calendar: Calendar, ts: &str) -> Phase {
        calendar.at(ts.parse().unwrap()).phase
    }

    #[test]
    fn coins_are_traded_day_and_night() {
        let day = Calendar::Always.day(date(2024, 12, 25)).unwrap();
        assert_eq!((day.open.to_string(), day.close.to_string()), {
            ("2024-12-25T00:00:00Z".to_owned(), "2024-12-26T00:00:00Z".to_owned())
        });
        let moment = Calendar::Always.at("2024-12-25T23:59:59.999Z".parse().unwrap());
        assert_eq!((moment.date, moment.phase), (date(2024, 12, 25), Phase::Regular));
    }

    #[test]
    fn a_day_in_new_york_with_daylight_saving_and_without() {
        for (ts, expected) in [
            ("2013-10-07T07:59:59Z", Phase::Closed),
            ("2013-10-07T08:00:00Z", Phase::Pre),
            ("2013-10-07T13:29:59.999Z", Phase::Pre),
            ("2013-10-07T13:30:00Z", Phase::Regular),
            ("2013-10-07T19:59:59.999Z", Phase::Regular),
            ("2013-10-07T20:00:00Z", Phase::Post),
            ("2013-10-08T00:00:00Z", Phase::Closed),
            // Winter: one hour later in UTC.
            ("2013-12-09T14:29:59Z", Phase::Pre),
            ("2013-12-09T14:30:00Z", Phase::Regular),
            ("2013-12-09T21:00:00Z", Phase::Post),
            // Early close: 13:00 in New York, and all is over at 17:00.
            ("2013-11-29T17:59:59Z", Phase::Regular),
            ("2013-11-29T18:00:00Z", Phase::Post),
            ("2013-11-29T22:00:00Z", Phase::Closed),
            // Weekend, holiday.
            ("2013-10-06T15:00:00Z", Phase::Closed),
            ("2013-12-25T15:00:00Z", Phase::Closed),
        ] {
            assert_eq!(phase(Calendar::UsEquities, ts), expected, "{ts}");
        }
        let evening = Calendar::UsEquities.at("2013-10-08T03:59:59Z".parse().unwrap());
        assert_eq!(evening.date, date(2013, 10, 7), "it is still Monday in New York");
    }

    proptest! {
        #[test]
        fn every_time_has_a_date_and_the_phase_of_its_day(seconds in -60_000_000_000_i64..250_000_000_000) {
            let ts = Timestamp::from_second(seconds).unwrap();
            for calendar in [Calendar::Always, Calendar::UsEquities] {
                let moment = calendar.at(ts);
                match calendar.day(moment.date) {
                    None => prop_assert_eq!(moment.phase, Phase::Closed),
                    Some(day) => {
                        prop_assert!(day.opens <= day.open && day.open < day.close && day.close <= day.closes);
                        prop_assert_eq!(moment.phase, day.phase(ts));
                        prop_assert_eq!(calendar.date(day.opens), day.date);
                    }
                }
            }
        }
    }

    #[test]
    fn a_date_is_as_long_as_the_clocks_make_it() {
        for (calendar, date, hours) in [
            (Calendar::Always, date(2024, 3, 10), 24),
            (Calendar::UsEquities, date(2024, 3, 9), 24),
            (Calendar::UsEquities, date(2024, 3, 10), 23),
            (Calendar::UsEquities, date(2024, 11, 3), 25),
        ] {
            let (begin, end) = calendar.span(date);
            assert_eq!(end.duration_since(begin).as_hours(), hours, "{date}");
            assert_eq!(calendar.date(begin), date);
        }
    }

    #[test]
    fn times_at_the_ends_of_time_are_closed_or_open_and_nothing_breaks() {
        for ts in [Timestamp::MIN, Timestamp::MAX] {
            Calendar::Always.at(ts);
            Calendar::UsEquities.at(ts);
        }
    }
}
