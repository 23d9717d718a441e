//! What the series of several providers have in common: bars, which come again with every answer.
//!
//! A bar becomes a tick with its close as the price and its volume as the size, dated when the bar
//! began, as its provider dates it: the end of the one that runs is in the future. Its identity is
//! its length, that time, its close and its volume. So a bar that comes again unchanged is a
//! duplicate, and one that has changed, as the one that runs does all the time, is another tick of
//! the same time, flagged as out of order where later bars were there before. Bars become ticks from
//! the oldest to the newest, in whichever order they stand.

use std::fmt::Display;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use schemas::{Decimal, Rejection, Symbol, TimeFormat};

use super::{
    Event, invalid,
    json::{self, Field},
    text,
};

/// From 1 on, as it stands in the payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row(pub(super) usize);

impl Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, " (row {})", self.0)
    }
}

/// The identity of a bar, or of a quote, whose length is `quote`.
pub(super) fn identity(
    length: &str,
    ts: Timestamp,
    price: &Decimal,
    size: Option<&Decimal>,
) -> String {
    let mut identity = format!("{length}:{}:{price}", ts.as_second());
    if let Some(size) = size {
        identity.push(':');
        identity.push_str(&size.to_string());
    }
    identity
}

/// The symbol that was asked for, which the payload must not contradict; the one that it names where
/// nobody says what was asked for.
pub(super) fn symbol(
    name: &str,
    asked: Option<&Symbol>,
    said: Field<'_>,
) -> Result<Symbol, Rejection> {
    let Some(asked) = asked else { return json::symbol(name, said) };
    match json::optional_string(name, said)? {
        Some(said) if !said.eq_ignore_ascii_case(asked.as_str()) => {
            let said = text::shorten(&said);
            Err(invalid(name, &"", format!("{said:?} is not {asked}, which was asked for")))
        }
        _ => Ok(asked.clone()),
    }
}

/// Seconds since 1970-01-01T00:00:00Z.
pub(super) fn epoch_seconds(
    name: &str,
    place: &dyn Display,
    field: Field<'_>,
) -> Result<Timestamp, Rejection> {
    let written = field.ok_or_else(|| super::missing(name, place))?.get();
    written.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).ok_or_else(|| {
        let fault = format!("{} is not a time in seconds since 1970", text::shorten(written));
        invalid(name, place, fault)
    })
}

/// A time zone of the tz database.
pub(super) fn zone(name: &str, written: &str) -> Result<TimeZone, Rejection> {
    TimeZone::get(written)
        .map_err(|_| invalid(name, &"", format!("{:?} is not a time zone", text::shorten(written))))
}

/// What the clocks of the exchange show: a date and a time, or a date alone, which is its beginning.
pub(super) fn local_time(
    name: &str,
    place: &dyn Display,
    written: &str,
    zone: &TimeZone,
) -> Result<Timestamp, Rejection> {
    if let Ok(date) = Date::strptime("%Y-%m-%d", written) {
        return zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible().map_err(|_| {
            invalid(name, place, format!("{:?} is not a day", text::shorten(written)))
        });
    }
    let format = TimeFormat::Local("%Y-%m-%d %H:%M:%S".to_owned(), zone.clone());
    format.read(written).map_err(|fault| invalid(name, place, fault))
}

/// From the oldest to the newest; those without a time stay where they are among their neighbours.
pub(super) fn oldest_first(events: &mut [Event]) {
    let time = |event: Option<&Event>| event.and_then(|event| Some(event.as_ref().ok()?.ts));
    let first = events.iter().find_map(|event| time(Some(event)));
    let last = events.iter().rev().find_map(|event| time(Some(event)));
    if first > last {
        events.reverse();
    }
}
