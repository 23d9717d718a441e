//! Rows of named fields, as users' own sources deliver them: CSV files with a header ([`csv`]), their
//! rows one by one ([`csv_row`]), and NDJSON ([`ndjson`]). What the fields are called, and how their times and numbers are written, says
//! the configuration (`[[records]]`, see [`Records`]); a source without one uses its defaults.

pub(super) mod csv;
pub(super) mod csv_row;
pub(super) mod ndjson;

use std::borrow::Cow;

use schemas::{Records, Rejection, TimeFormat};

use super::{Decoded, Event, invalid, missing, number::Numbers, text};
use crate::Error;

/// How the records of a source are read.
pub(super) struct Mapping {
    fields: Records,
    time: TimeFormat,
    /// Of prices whose record does not say.
    currency: String,
}

/// A row that can be asked for its fields.
pub(super) trait Row {
    /// The text of a field; `None` where it is not there or empty.
    fn field(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection>;

    /// Where a field stands, for errors: ` (row 3, column 2)`.
    fn place(&self, name: &str) -> String;
}

/// Without the byte order mark that some programs begin a file of UTF-8 with.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

impl Mapping {
    /// `index` is the place of the mapping in the configuration.
    pub(super) fn compile(index: usize, records: &Records, currency: &str) -> Result<Self, Error> {
        let time = records.check().map_err(|fault| Error::Site {
            key: format!("records[{index}].{}", fault.key),
            fault: fault.fault,
        })?;
        Ok(Self { fields: records.clone(), time, currency: currency.to_owned() })
    }

    /// Of a source that is not configured.
    pub(super) fn default(currency: &str) -> Self {
        Self {
            fields: Records::default(),
            time: TimeFormat::Rfc3339,
            currency: currency.to_owned(),
        }
    }

    /// How the numbers of these rows are written.
    fn numbers<'a, R: Row + 'a>(&self, rows: impl Iterator<Item = &'a R>) -> Numbers {
        let written = rows.filter_map(|row| row.field(&self.fields.price).ok().flatten());
        Numbers::of(self.fields.numbers, &self.currency, written)
    }

    fn event(&self, row: &impl Row, numbers: Numbers) -> Event {
        let Records { symbol, price, size, exchange, currency, time, .. } = &self.fields;
        let required =
            |name: &String| row.field(name)?.ok_or_else(|| missing(name, &row.place(name)));
        let optional = |name: &String| match name.as_str() {
            "" => Ok(None),
            name => row.field(name),
        };
        let number = |name: &str, written: &str| {
            numbers.read(name, &row.place(name), written, &self.currency)
        };
        let size_written = optional(size)?;
        Ok(Decoded {
            identity: None,
            symbol: text::symbol(symbol, &row.place(symbol), &required(symbol)?)?,
            price: number(price, &required(price)?)?,
            size: size_written.map(|written| number(size, &written)).transpose()?,
            currency: optional(currency)?.map_or_else(|| self.currency.clone(), Cow::into_owned),
            exchange: optional(exchange)?.map(Cow::into_owned),
            kind: self.fields.kind,
            ts: self
                .time
                .read(&required(time)?)
                .map_err(|fault| invalid(time, &row.place(time), fault))?,
        })
    }

    /// What the fields are called that mean something.
    fn names(&self) -> [&str; 6] {
        let Records { symbol, price, size, exchange, currency, time, .. } = &self.fields;
        [symbol, price, size, exchange, currency, time].map(String::as_str)
    }

    /// What separates the fields of a CSV file: one ASCII character, says the check.
    fn delimiter(&self) -> u8 {
        u8::try_from(self.fields.delimiter).unwrap_or(b',')
    }
}
