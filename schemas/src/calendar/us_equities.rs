//! The exchanges for equities of the United States, from 1998 on.
//!
//! Sources: NYSE Rule 7.2 (holidays), the yearly "Holidays and Trading Hours" of NYSE and Nasdaq
//! (<https://www.nyse.com/markets/hours-calendars>), NYSE's list of special closings, and Nasdaq's
//! hours of its system (Equity 2, section 2): 4:00 to 20:00 in New York, to 17:00 where it closes
//! early. Before 1998 there was no Martin Luther King Day; earlier years are not kept here.
//!
//! Holidays are rules, so coming years need no new data; the tests have them as NYSE announced them
//! up to 2028. What no rule foresees, such as a day of mourning, is added here when it is announced:
//! until then its ticks, if there are any, are taken for those of any other day.

use std::sync::LazyLock;

use jiff::{
    civil::{
        Date,
        Weekday::{Friday, Monday, Thursday, Tuesday, Wednesday},
        date, time,
    },
    tz::TimeZone,
};

use super::exchange::{Exchange, Hours, Rule, Yearly, always, between};

#[expect(clippy::expect_used, reason = "the time zone database is part of the program")]
pub(super) static EXCHANGE: Exchange = Exchange {
    zone: LazyLock::new(|| TimeZone::get("America/New_York").expect("New York has a time zone")),
    hours: Hours {
        opens: time(4, 0, 0, 0),
        open: time(9, 30, 0, 0),
        close: time(16, 0, 0, 0),
        closes: time(20, 0, 0, 0),
    },
    early_hours: Hours {
        opens: time(4, 0, 0, 0),
        open: time(9, 30, 0, 0),
        close: time(13, 0, 0, 0),
        closes: time(17, 0, 0, 0),
    },
    holidays: HOLIDAYS,
    single_closures: CLOSURES,
    early_closes: EARLY_CLOSES,
    single_early_closes: SINGLE_EARLY_CLOSES,
};

const HOLIDAYS: &[Yearly] = &[
    // New Year's Day: where it is a Saturday, the Friday before ends a year and is traded.
    always(Rule::SundayToMonday { month: 1, day: 1 }),
    // Martin Luther King Day, Washington's Birthday.
    between(1998, i16::MAX, Rule::Nth { month: 1, nth: 3, weekday: Monday, after: 0 }),
    always(Rule::Nth { month: 2, nth: 3, weekday: Monday, after: 0 }),
    // Good Friday.
    always(Rule::Easter { after: -2 }),
    // Memorial Day, Juneteenth, Independence Day, Labor Day.
    always(Rule::Nth { month: 5, nth: -1, weekday: Monday, after: 0 }),
    between(2022, i16::MAX, Rule::Nearest { month: 6, day: 19 }),
    always(Rule::Nearest { month: 7, day: 4 }),
    always(Rule::Nth { month: 9, nth: 1, weekday: Monday, after: 0 }),
    // Thanksgiving, Christmas.
    always(Rule::Nth { month: 11, nth: 4, weekday: Thursday, after: 0 }),
    always(Rule::Nearest { month: 12, day: 25 }),
];

const CLOSURES: &[Date] = &[
    // The attacks on the World Trade Center.
    date(2001, 9, 11),
    date(2001, 9, 12),
    date(2001, 9, 13),
    date(2001, 9, 14),
    // Mourning: Presidents Reagan and Ford.
    date(2004, 6, 11),
    date(2007, 1, 2),
    // Hurricane Sandy.
    date(2012, 10, 29),
    date(2012, 10, 30),
    // Mourning: Presidents Bush and Carter.
    date(2018, 12, 5),
    date(2025, 1, 9),
];

const EARLY_CLOSES: &[Yearly] = &[
    // Before Independence Day; where that is a Thursday, until 2012 the Friday after it instead.
    always(Rule::On { month: 7, day: 3, weekdays: &[Monday, Tuesday, Thursday] }),
    between(i16::MIN, 2012, Rule::On { month: 7, day: 5, weekdays: &[Friday] }),
    between(2013, i16::MAX, Rule::On { month: 7, day: 3, weekdays: &[Wednesday] }),
    // The day after Thanksgiving.
    always(Rule::Nth { month: 11, nth: 4, weekday: Thursday, after: 1 }),
    // Christmas Eve; where it is a Friday, it is the holiday.
    always(Rule::On { month: 12, day: 24, weekdays: &[Monday, Tuesday, Wednesday, Thursday] }),
];

const SINGLE_EARLY_CLOSES: &[Date] = &[date(1999, 12, 31), date(2003, 12, 26)];

#[cfg(test)]
mod tests {
    use super::*;

    /// The weekdays of a year that have no session, and those that end early.
    fn exceptions(year: i16) -> (String, String) {
        let (mut closed, mut early) = (Vec::new(), Vec::new());
        let mut day = date(year, 1, 1);
        while day.year() == year {
            let is_weekend = matches!(
                day.weekday(),
                jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday
            );
            let name = day.strftime("%m-%d").to_string();
            match EXCHANGE.day(day) {
                None if !is_weekend => closed.push(name),
                Some(sessions) if sessions.early_close => early.push(name),
                _ => {}
            }
            day = day.tomorrow().unwrap();
        }
        (closed.join(" "), early.join(" "))
    }

    /// As NYSE announced them.
    #[test]
    fn the_holidays_of_many_years() {
        for (year, closed, early) in [
            (1999, "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24", "11-26 12-31"),
            (
                2001,
                "01-01 01-15 02-19 04-13 05-28 07-04 09-03 09-11 09-12 09-13 09-14 11-22 12-25",
                "07-03 11-23 12-24",
            ),
            (2002, "01-01 01-21 02-18 03-29 05-27 07-04 09-02 11-28 12-25", "07-05 11-29 12-24"),
            (
                2003,
                "01-01 01-20 02-17 04-18 05-26 07-04 09-01 11-27 12-25",
                "07-03 11-28 12-24 12-26",
            ),
            // New Year's Day 2005 was a Saturday: nobody had the Friday off.
            (2004, "01-01 01-19 02-16 04-09 05-31 06-11 07-05 09-06 11-25 12-24", "11-26"),
            (
                2007,
                "01-01 01-02 01-15 02-19 04-06 05-28 07-04 09-03 11-22 12-25",
                "07-03 11-23 12-24",
            ),
            (
                2012,
                "01-02 01-16 02-20 04-06 05-28 07-04 09-03 10-29 10-30 11-22 12-25",
                "07-03 11-23 12-24",
            ),
            (2013, "01-01 01-21 02-18 03-29 05-27 07-04 09-02 11-28 12-25", "07-03 11-29 12-24"),
            (2014, "01-01 01-20 02-17 04-18 05-26 07-04 09-01 11-27 12-25", "07-03 11-28 12-24"),
            (2015, "01-01 01-19 02-16 04-03 05-25 07-03 09-07 11-26 12-25", "11-27 12-24"),
            (2016, "01-01 01-18 02-15 03-25 05-30 07-04 09-05 11-24 12-26", "11-25"),
            (
                2018,
                "01-01 01-15 02-19 03-30 05-28 07-04 09-03 11-22 12-05 12-25",
                "07-03 11-23 12-24",
            ),
            (2020, "01-01 01-20 02-17 04-10 05-25 07-03 09-07 11-26 12-25", "11-27 12-24"),
            (2021, "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24", "11-26"),
            (2022, "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26", "11-25"),
            (2023, "01-02 01-16 02-20 04-07 05-29 06-19 07-04 09-04 11-23 12-25", "07-03 11-24"),
            (
                2024,
                "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
                "07-03 11-29 12-24",
            ),
            (
                2025,
                "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
                "07-03 11-28 12-24",
            ),
            (2026, "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25", "11-27 12-24"),
            (2027, "01-01 01-18 02-15 03-26 05-31 06-18 07-05 09-06 11-25 12-24", "11-26"),
            // New Year's Day is a Saturday.
            (2028, "01-17 02-21 04-14 05-29 06-19 07-04 09-04 11-23 12-25", "07-03 11-24"),
        ] {
            assert_eq!(exceptions(year), (closed.to_owned(), early.to_owned()), "{year}");
        }
    }
}
