//! Values that stand in a payload as JSON, digit for digit: a number is never a binary float.

use std::borrow::Cow;

use jiff::Timestamp;
use schemas::{Decimal, Rejection, Symbol};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{invalid, malformed, missing, text};

/// A field as it stands in the payload; `None` is not there, or null.
pub(super) type Field<'a> = Option<&'a RawValue>;

/// Reads an object. `T` has nothing but [`Field`]s, so that the fault of one field is its own.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Rejection> {
    // Serde would take an array as the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed("the payload is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|fault| {
        malformed(format!("the payload is not a JSON object as expected: {fault}"))
    })
}

pub(super) fn symbol(name: &str, field: Field<'_>) -> Result<Symbol, Rejection> {
    text::symbol(name, &"", &string(name, field)?)
}

/// A JSON number, or a string that holds one.
pub(super) fn number(name: &str, field: Field<'_>) -> Result<Decimal, Rejection> {
    optional_number(name, field)?.ok_or_else(|| missing(name, &""))
}

pub(super) fn optional_number(name: &str, field: Field<'_>) -> Result<Option<Decimal>, Rejection> {
    let Some(raw) = field else { return Ok(None) };
    match raw.get().as_bytes().first() {
        Some(b'"') => text::number(name, &"", &string(name, field)?).map(Some),
        _ => text::number(name, &"", raw.get()).map(Some),
    }
}

pub(super) fn time(name: &str, field: Field<'_>) -> Result<Timestamp, Rejection> {
    text::time(name, &"", &string(name, field)?)
}

pub(super) fn string<'a>(name: &str, field: Field<'a>) -> Result<Cow<'a, str>, Rejection> {
    optional_string(name, field)?.ok_or_else(|| missing(name, &""))
}

pub(super) fn optional_string<'a>(
    name: &str,
    field: Field<'a>,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    /// Borrows where nothing is escaped, which a bare `Cow` does not.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let Some(raw) = field else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(Text(text)) => Ok(Some(text)),
        Err(_) => Err(invalid(name, &"", format!("{} is not a text", text::shorten(raw.get())))),
    }
}
