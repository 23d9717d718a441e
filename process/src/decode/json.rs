//! Values that stand in a payload as JSON, digit for digit: a number is never a binary float.

use std::{
    borrow::Cow,
    fmt::{self, Display},
};

use jiff::Timestamp;
use schemas::{Decimal, Rejection, Symbol};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Event, invalid, malformed, missing, text};

/// A field as it stands in the payload; `None` is not there, or null.
pub(super) type Field<'a> = Option<&'a RawValue>;

/// Borrows where nothing is escaped, which a bare `Cow` does not.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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
    optional_number_at(name, &"", field)
}

/// As [`number`], with its place for errors.
pub(super) fn number_at(
    name: &str,
    place: &dyn Display,
    field: Field<'_>,
) -> Result<Decimal, Rejection> {
    optional_number_at(name, place, field)?.ok_or_else(|| missing(name, place))
}

pub(super) fn optional_number_at(
    name: &str,
    place: &dyn Display,
    field: Field<'_>,
) -> Result<Option<Decimal>, Rejection> {
    let Some(raw) = field else { return Ok(None) };
    match raw.get().as_bytes().first() {
        Some(b'"') => text::number(name, place, &string(name, field)?).map(Some),
        _ => text::number(name, place, raw.get()).map(Some),
    }
}

/// The elements of an array; none where it is not there, or null.
pub(super) fn list<'a>(name: &str, field: Field<'a>) -> Result<Vec<Field<'a>>, Rejection> {
    let Some(raw) = field else { return Ok(Vec::new()) };
    let wrong = |_| invalid(name, &"", format!("{} is not a list", text::shorten(raw.get())));
    serde_json::from_str(raw.get()).map_err(wrong)
}

/// The fields of an object whose names are not known beforehand, in their order.
pub(super) fn entries(body: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Rejection> {
    struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

    struct InOrder;

    impl<'de> Visitor<'de> for InOrder {
        type Value = Entries<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
            let mut entries = Vec::new();
            while let Some((Text(name), value)) = map.next_entry()? {
                entries.push((name, value));
            }
            Ok(Entries(entries))
        }
    }

    impl<'de> Deserialize<'de> for Entries<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(InOrder)
        }
    }

    object(body).map(|Entries(entries)| entries)
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
    let Some(raw) = field else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(Text(text)) => Ok(Some(text)),
        Err(_) => Err(invalid(name, &"", format!("{} is not a text", text::shorten(raw.get())))),
    }
}

/// A text that is in every event of its payload: bounded, for a long one would be there as often.
pub(super) fn shared_string(name: &str, field: Field<'_>) -> Result<Option<String>, Rejection> {
    const MOST: usize = 256;
    match optional_string(name, field)? {
        Some(text) if text.len() > MOST => {
            let fault = format!("{:?}… is longer than {MOST} bytes", text::shorten(&text));
            Err(invalid(name, &"", fault))
        }
        text => Ok(text.map(Cow::into_owned)),
    }
}

/// A whole number that is not negative.
pub(super) fn integer(name: &str, field: Field<'_>) -> Result<u64, Rejection> {
    let raw = field.ok_or_else(|| missing(name, &""))?;
    raw.get().parse().map_err(|_| {
        invalid(name, &"", format!("{} is not a whole number", text::shorten(raw.get())))
    })
}

/// One of several events of a payload: what is wrong with it says where it is.
pub(super) fn at(place: &dyn Display, read: impl FnOnce() -> Event) -> Event {
    read().map_err(|mut rejection| {
        rejection.detail = format!("{}{place}", rejection.detail);
        rejection
    })
}
