//! NDJSON (<https://github.com/ndjson/ndjson-spec>): one JSON object a line, one event each. Lines
//! with nothing but white space are passed over.

use std::{borrow::Cow, collections::HashMap};

use schemas::Rejection;
use serde_json::value::RawValue;

use super::{Mapping, Row};
use crate::decode::{Event, MAX_EVENTS, invalid, json, malformed, text, too_many};

type Object<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// A line.
struct Line<'a> {
    object: Object<'a>,
    /// From 1 on.
    number: usize,
}

impl Row for Line<'_> {
    fn field(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        // A field of that very name comes before a path into an object.
        let found = self.object.get(name).map(|value| value.get());
        let Some(value) = found.or_else(|| inner(&self.object, name)) else { return Ok(None) };
        let text = match value.as_bytes().first() {
            Some(b'n') => None,
            Some(b'"') => serde_json::from_str::<Cow<'_, str>>(value).ok().map(Cow::into_owned),
            Some(b'-' | b'0'..=b'9') => Some(value.to_owned()),
            _ => {
                let fault = format!("{} is neither a text nor a number", text::shorten(value));
                return Err(invalid(name, &self.place(name), fault));
            }
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).map(Cow::Owned))
    }

    fn place(&self, _name: &str) -> String {
        format!(" (row {})", self.number)
    }
}

/// The value at the end of a path such as `data.price`.
fn inner<'a>(object: &Object<'a>, path: &str) -> Option<&'a str> {
    let (first, rest) = path.split_once('.')?;
    let value: &'a RawValue = object.get(first).copied()?;
    let within: Object<'a> = serde_json::from_str(value.get()).ok()?;
    match within.get(rest) {
        Some(value) => Some(value.get()),
        None => inner(&within, rest),
    }
}

pub(in crate::decode) fn decode(body: &[u8], mapping: &Mapping, events: &mut Vec<Event>) {
    let lines: Vec<&[u8]> =
        body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    if lines.is_empty() {
        return events.push(Err(malformed("it has no line")));
    }
    if lines.len() > MAX_EVENTS {
        return events.push(Err(too_many("lines")));
    }
    let rows: Vec<Result<Line<'_>, Rejection>> = (1..)
        .zip(lines)
        .map(|(number, line)| match json::object(line) {
            Ok(object) => Ok(Line { object, number }),
            Err(fault) => Err(malformed(format!("row {number}: {}", fault.detail))),
        })
        .collect();
    let numbers = mapping.numbers(rows.iter().filter_map(|row| row.as_ref().ok()));
    events.extend(rows.into_iter().map(|row| mapping.event(&row?, numbers)));
}
