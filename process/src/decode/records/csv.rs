//! A CSV file (RFC 4180) whose first line names its columns: one event per line after it.

use std::borrow::Cow;

use csv::{ByteRecord, ReaderBuilder};
use schemas::Rejection;

use super::{Mapping, Row};
use crate::decode::{Event, MAX_EVENTS, invalid, malformed, too_many};

/// A line, and where its columns are.
struct Line<'a> {
    header: &'a ByteRecord,
    fields: &'a ByteRecord,
    /// From 1 on, without the header.
    number: usize,
}

impl Line<'_> {
    fn column(&self, name: &str) -> Option<usize> {
        self.header
            .iter()
            .position(|column| column.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    }
}

impl Row for Line<'_> {
    fn field(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        let Some(bytes) = self.column(name).and_then(|column| self.fields.get(column)) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| invalid(name, &self.place(name), "it is not UTF-8"))?
            .trim();
        Ok((!text.is_empty()).then_some(Cow::Borrowed(text)))
    }

    fn place(&self, name: &str) -> String {
        match self.column(name) {
            Some(column) => format!(" (row {}, column {})", self.number, column + 1),
            None => format!(" (row {})", self.number),
        }
    }
}

pub(in crate::decode) fn decode(body: &[u8], mapping: &Mapping, events: &mut Vec<Event>) {
    let mut reader = ReaderBuilder::new()
        .delimiter(mapping.delimiter())
        .has_headers(false)
        .flexible(true)
        .from_reader(body);
    let mut lines = Vec::new();
    for line in reader.byte_records() {
        match line {
            Ok(line) => lines.push(line),
            Err(fault) => return events.push(Err(malformed(format!("it is not CSV: {fault}")))),
        }
        if lines.len() > MAX_EVENTS + 1 {
            return events.push(Err(too_many("lines")));
        }
    }
    let Some((header, lines)) = lines.split_first().filter(|(_, lines)| !lines.is_empty()) else {
        return events.push(Err(malformed("it has no line after its header")));
    };
    let rows: Vec<Line<'_>> =
        (1..).zip(lines).map(|(number, fields)| Line { header, fields, number }).collect();
    let numbers = mapping.numbers(rows.iter());
    events.extend(rows.iter().map(|row| {
        let (found, expected) = (row.fields.len(), header.len());
        if found != expected {
            let number = row.number;
            return Err(malformed(format!("row {number} has {found} fields, not {expected}")));
        }
        mapping.event(row, numbers)
    }));
}
