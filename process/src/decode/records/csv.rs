//! A CSV file (RFC 4180) whose first line names its columns: one event per line after it. A line may
//! be several, between quotation marks; one whose marks are not right takes no other with it.

use std::borrow::Cow;

use csv::{ByteRecord, Reader, ReaderBuilder};
use schemas::Rejection;

use super::{Mapping, Row, without_mark};
use crate::decode::{Event, MAX_EVENTS, columns::Columns, invalid, malformed, too_many};

/// How often reading begins again after a line whose quotation marks are not right. Each time may
/// read to the end, so it is bounded.
const MAX_BAD_QUOTES: usize = 100;

/// A line, and where its columns are.
struct Line<'a> {
    columns: &'a Columns<'a>,
    fields: &'a ByteRecord,
    /// From 1 on, without the header.
    number: usize,
}

impl Row for Line<'_> {
    fn field(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        let text = self.columns.text(name, self.fields);
        let text = text.map_err(|_| invalid(name, &self.place(name), "it is not UTF-8"))?;
        Ok(text.map(Cow::Borrowed))
    }

    fn place(&self, name: &str) -> String {
        match self.columns.get(name) {
            Some(column) => format!(" (row {}, column {})", self.number, column + 1),
            None => format!(" (row {})", self.number),
        }
    }
}

pub(in crate::decode) fn decode(body: &[u8], mapping: &Mapping, events: &mut Vec<Event>) {
    let lines = match lines(without_mark(body), mapping.delimiter()) {
        Ok(lines) => lines,
        Err(rejection) => return events.push(Err(rejection)),
    };
    let Some((header, lines)) = lines.split_first().filter(|(_, lines)| !lines.is_empty()) else {
        return events.push(Err(malformed("it has no line after its header")));
    };
    let Some(header) = header else {
        return events.push(Err(malformed("the quotation marks of its header are not right")));
    };
    let columns = &Columns::find(header, mapping.names());
    let rows: Vec<Option<Line<'_>>> = (1..)
        .zip(lines)
        .map(|(number, fields)| Some(Line { columns, fields: fields.as_ref()?, number }))
        .collect();
    let numbers = mapping.numbers(rows.iter().flatten());
    events.extend((1..).zip(&rows).map(|(number, row)| {
        let Some(row) = row else {
            let fault = format!("row {number}: a quoted field does not end where it should");
            return Err(malformed(fault));
        };
        let (found, expected) = (row.fields.len(), header.len());
        if found != expected {
            return Err(malformed(format!("row {number} has {found} fields, not {expected}")));
        }
        mapping.event(row, numbers)
    }));
}

/// The lines with their fields; `None` where the quotation marks are not right.
fn lines(body: &[u8], delimiter: u8) -> Result<Vec<Option<ByteRecord>>, Rejection> {
    let (mut lines, mut bad) = (Vec::new(), 0);
    let mut rest = body;
    'again: loop {
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(rest);
        loop {
            let (begin, mut fields) = (place(&reader), ByteRecord::new());
            match reader.read_byte_record(&mut fields) {
                Ok(true) => {}
                Ok(false) => return Ok(lines),
                Err(fault) => return Err(malformed(format!("it is not CSV: {fault}"))),
            }
            if lines.len() > MAX_EVENTS {
                return Err(too_many("lines"));
            }
            let written = rest.get(begin..place(&reader)).unwrap_or_default();
            if bad < MAX_BAD_QUOTES && !is_quoted_well(written, &fields, delimiter) {
                bad += 1;
                lines.push(None);
                rest = rest.get(begin..).unwrap_or_default().trim_ascii_start();
                let end = rest.iter().position(|byte| *byte == b'\n');
                rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
                continue 'again;
            }
            lines.push(Some(fields));
        }
    }
}

/// How far a reader has come.
fn place(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.position().byte()).unwrap_or(usize::MAX)
}

/// Whether what was read as one line is one, even where it is written on several: the next mark after
/// an opening one that is not written twice ends the field.
fn is_quoted_well(written: &[u8], fields: &ByteRecord, delimiter: u8) -> bool {
    if !fields.as_slice().contains(&b'\n') {
        return true;
    }
    let mut bytes = written.trim_ascii_start().iter().copied().peekable();
    while let Some(first) = bytes.next() {
        let mut byte = Some(first);
        if first == b'"' {
            loop {
                match bytes.next() {
                    Some(b'"') if bytes.next_if_eq(&b'"').is_none() => break,
                    Some(_) => {}
                    None => return false,
                }
            }
            byte = bytes.next();
            if byte.is_some_and(|byte| byte != delimiter && !matches!(byte, b'\r' | b'\n')) {
                return false;
            }
        }
        while byte.is_some_and(|byte| byte != delimiter) {
            byte = bytes.next();
        }
    }
    true
}
