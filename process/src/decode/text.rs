//! Values that stand in a payload as text. A `place` is empty, or says where: ` (row 3)`.

use std::fmt::Display;

use jiff::Timestamp;
use schemas::{Decimal, Rejection, Symbol};

use super::invalid;

pub(super) fn symbol(field: &str, place: &dyn Display, text: &str) -> Result<Symbol, Rejection> {
    Symbol::new(text).map_err(|fault| invalid(field, place, fault))
}

pub(super) fn number(field: &str, place: &dyn Display, text: &str) -> Result<Decimal, Rejection> {
    Decimal::parse(text).map_err(|fault| invalid(field, place, fault))
}

/// RFC 3339 with any offset.
pub(super) fn time(field: &str, place: &dyn Display, text: &str) -> Result<Timestamp, Rejection> {
    text.parse().map_err(|_| {
        invalid(field, place, format!("{:?} is not a time as of RFC 3339", shorten(text)))
    })
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(super) fn epoch_millis(
    field: &str,
    place: &dyn Display,
    text: &str,
) -> Result<Timestamp, Rejection> {
    text.parse().ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).ok_or_else(|| {
        let fault = format!("{:?} is not a time in milliseconds since 1970", shorten(text));
        invalid(field, place, fault)
    })
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub(super) fn epoch_micros(
    field: &str,
    place: &dyn Display,
    text: &str,
) -> Result<Timestamp, Rejection> {
    text.parse().ok().and_then(|micros| Timestamp::from_microsecond(micros).ok()).ok_or_else(|| {
        let fault = format!("{:?} is not a time in microseconds since 1970", shorten(text));
        invalid(field, place, fault)
    })
}

/// Keeps an error short whatever was sent.
pub(super) fn shorten(text: &str) -> &str {
    const KEPT: usize = 40;
    text.char_indices().nth(KEPT).map_or(text, |(end, _)| &text[..end])
}
