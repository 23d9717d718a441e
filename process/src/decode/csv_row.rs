//! One row of a CSV file (RFC 4180), whose column names stand in the envelope.
//!
//! Columns, in any order and case: `symbol`, `price`, a time (`ts_ms`, milliseconds since 1970, or
//! `ts`, RFC 3339), and optionally `size`, `exchange` and `currency`. Others are ignored. An empty
//! field is one that is not there. White space around a field is not part of it.
//!
//! A source with a mapping has columns of its own: see [`records`](super::records).

use std::{borrow::Cow, fmt};

use schemas::{Reason, Rejection, TickKind, headers};

use super::{Decoded, Event, malformed, missing, text};

/// The fields that mean something.
#[derive(Default)]
struct Row<'a> {
    symbol: Cell<'a>,
    price: Cell<'a>,
    ts_ms: Cell<'a>,
    ts: Cell<'a>,
    size: Cell<'a>,
    exchange: Cell<'a>,
    currency: Cell<'a>,
}

/// A field and its place.
#[derive(Default)]
struct Cell<'a> {
    text: Cow<'a, str>,
    column: Column,
}

/// From 1 on; 0 where the file has no such column.
#[derive(Default, Clone, Copy)]
struct Column(usize);

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            column => write!(f, " (column {column})"),
        }
    }
}

pub(super) fn decode(body: &[u8], columns: Option<&str>, currency: &str) -> Event {
    let row = Row::read(body, columns)?;
    let ts = match (row.ts_ms.given(), row.ts.given()) {
        (Some(millis), _) => text::epoch_millis("ts_ms", &row.ts_ms.column, millis)?,
        (None, Some(time)) => text::time("ts", &row.ts.column, time)?,
        (None, None) => return Err(missing("ts_ms", &row.ts_ms.column)),
    };
    let symbol = row.symbol.given().ok_or_else(|| missing("symbol", &row.symbol.column))?;
    let price = row.price.given().ok_or_else(|| missing("price", &row.price.column))?;
    let size = row.size.given().map(|size| text::number("size", &row.size.column, size));
    Ok(Decoded {
        identity: None,
        symbol: text::symbol("symbol", &row.symbol.column, symbol)?,
        price: text::number("price", &row.price.column, price)?,
        size: size.transpose()?,
        currency: row.currency.given().unwrap_or(currency).to_owned(),
        exchange: row.exchange.given().map(str::to_owned),
        kind: TickKind::Trade,
        ts,
    })
}

impl<'a> Row<'a> {
    fn read(body: &'a [u8], columns: Option<&'a str>) -> Result<Self, Rejection> {
        let mut row = Self::default();
        let mut column = 0;
        each_field(body, columns, ',', |name, text| {
            column += 1;
            match row.cell(&name) {
                Some(cell) if cell.column.0 != 0 => {
                    Err(malformed(format!("the column {name} is there twice")))
                }
                Some(cell) => {
                    *cell = Cell { text, column: Column(column) };
                    Ok(())
                }
                None => Ok(()),
            }
        })?;
        Ok(row)
    }

    fn cell(&mut self, name: &str) -> Option<&mut Cell<'a>> {
        let cells = [
            ("symbol", &mut self.symbol),
            ("price", &mut self.price),
            ("ts_ms", &mut self.ts_ms),
            ("ts", &mut self.ts),
            ("size", &mut self.size),
            ("exchange", &mut self.exchange),
            ("currency", &mut self.currency),
        ];
        cells.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, cell)| cell)
    }
}

impl Cell<'_> {
    fn given(&self) -> Option<&str> {
        Some(&*self.text).filter(|text| !text.is_empty())
    }
}

/// Takes each field with the name of its column, in order.
pub(super) fn each_field<'a>(
    body: &'a [u8],
    columns: Option<&'a str>,
    delimiter: char,
    mut take: impl FnMut(Cow<'a, str>, Cow<'a, str>) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let columns = columns.ok_or_else(|| {
        let fault = format!("the header {} is missing", headers::COLUMNS);
        Rejection::decode(Reason::Envelope, fault)
    })?;
    let line = std::str::from_utf8(body)
        .map_err(|fault| malformed(format!("the row is not UTF-8: {fault}")))?;
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut fields = Fields { rest: Some(line), delimiter };
    let mut names = Fields { rest: Some(columns), delimiter };
    for column in 0.. {
        match (names.next(), fields.next()) {
            (Some(name), Some(text)) => take(name?, text?)?,
            (None, None) => break,
            (names_left, fields_left) => {
                let expected = column + names_left.into_iter().count() + names.count();
                let found = column + fields_left.into_iter().count() + fields.count();
                return Err(malformed(format!("the row has {found} fields, not {expected}")));
            }
        }
    }
    Ok(())
}

/// The fields of a line.
struct Fields<'a> {
    /// What is not read yet; `None` after the last field.
    rest: Option<&'a str>,
    delimiter: char,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Cow<'a, str>, Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if let Some(quoted) = self.trim_start(rest).strip_prefix('"') {
            return Some(self.quoted(quoted));
        }
        let field = match rest.split_once(self.delimiter) {
            Some((field, rest)) => {
                self.rest = Some(rest);
                field
            }
            None => rest,
        };
        Some(Ok(Cow::Borrowed(field.trim())))
    }
}

impl<'a> Fields<'a> {
    /// Without white space, which a tab between two fields is not.
    fn trim_start(&self, text: &'a str) -> &'a str {
        text.trim_start_matches(|c: char| c.is_whitespace() && c != self.delimiter)
    }

    /// A field whose opening quote is read already; a quote within is written twice.
    fn quoted(&mut self, text: &'a str) -> Result<Cow<'a, str>, Rejection> {
        let mut from = 0;
        while let Some(quote) = text[from..].find('"').map(|at| from + at) {
            let after = &text[quote + 1..];
            if after.starts_with('"') {
                from = quote + 2;
                continue;
            }
            match self.trim_start(after) {
                "" => {}
                after => match after.strip_prefix(self.delimiter) {
                    Some(rest) => self.rest = Some(rest),
                    None => {
                        return Err(malformed("a quoted field goes on after its closing quote"));
                    }
                },
            }
            let field = text[..quote].trim();
            return Ok(match from {
                0 => Cow::Borrowed(field),
                _ => Cow::Owned(field.replace("\"\"", "\"")),
            });
        }
        Err(malformed("a quoted field has no closing quote"))
    }
}
