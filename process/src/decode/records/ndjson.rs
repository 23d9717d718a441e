//! NDJSON (<https://github.com/ndjson/ndjson-spec>): one JSON object a line, one event each. Lines
//! with nothing but white space are passed over.

use std::borrow::Cow;

use schemas::{JsonRecord, NotAText, Rejection};

use super::{Mapping, Row, without_mark};
use crate::decode::{Event, MAX_EVENTS, invalid, json, malformed, text, too_many};

/// A line.
struct Line<'a> {
    record: JsonRecord<'a>,
    /// From 1 on.
    number: usize,
}

impl Row for Line<'_> {
    fn field(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        self.record.field(name).map_err(|NotAText(json)| {
            let fault = format!("{} is neither a text nor a number", text::shorten(json));
            invalid(name, &self.place(name), fault)
        })
    }

    fn place(&self, _name: &str) -> String {
        format!(" (row {})", self.number)
    }
}

pub(in crate::decode) fn decode(body: &[u8], mapping: &Mapping, events: &mut Vec<Event>) {
    let body = without_mark(body);
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
            Ok(record) => Ok(Line { record, number }),
            Err(fault) => Err(malformed(format!("row {number}: {}", fault.detail))),
        })
        .collect();
    let numbers = mapping.numbers(rows.iter().filter_map(|row| row.as_ref().ok()));
    events.extend(rows.into_iter().map(|row| mapping.event(&row?, numbers)));
}
