//! Rows of named fields that a user's own source delivers: how they are read.
//!
//! `process` reads all of them; `ingest` what it needs to play a file: the symbol and the time of a
//! row.

mod json;
mod time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Source, TickKind};

pub use json::{JsonRecord, NotAText};
pub use time::TimeFormat;

/// How the CSV and the NDJSON of a source are read: what its fields are called, and how its times and
/// numbers are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// The source whose payloads these are, such as `push:desk`, or `file`.
    pub source: String,
    /// The name of the field with the symbol. In NDJSON a name may lead into an object: `data.s`.
    pub symbol: String,
    /// The name of the field with the price.
    pub price: String,
    /// The name of the field with the size; it may be empty, or not be there.
    pub size: String,
    /// The name of the field with the exchange; it may be empty, or not be there.
    pub exchange: String,
    /// The name of the field with the currency; where it is empty or not there, it is that of
    /// `process.currency`.
    pub currency: String,
    /// The name of the field with the event time.
    pub time: String,
    /// How the event time is written: `rfc3339`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, or a
    /// pattern as of strftime, such as `%d.%m.%Y %H:%M:%S`.
    pub time_format: String,
    /// The time zone of a pattern without one, such as `America/New_York`. A time that the clocks
    /// there showed never or twice, when they were set, is rejected.
    pub time_zone: String,
    /// How numbers are written.
    pub numbers: NumberFormat,
    /// What separates the fields of a CSV file: one ASCII character.
    pub delimiter: char,
    /// What a record tells.
    pub kind: TickKind,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            source: String::new(),
            symbol: "symbol".to_owned(),
            price: "price".to_owned(),
            size: "size".to_owned(),
            exchange: "exchange".to_owned(),
            currency: "currency".to_owned(),
            time: "ts".to_owned(),
            time_format: "rfc3339".to_owned(),
            time_zone: String::new(),
            numbers: NumberFormat::Plain,
            delimiter: ',',
            kind: TickKind::Trade,
        }
    }
}

/// A mapping that does not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct RecordsError {
    /// The key within its table.
    pub key: &'static str,
    /// What is wrong with its value.
    pub fault: String,
}

impl Records {
    /// Checks everything, and gives the way to read its times.
    pub fn check(&self) -> Result<TimeFormat, RecordsError> {
        let wrong = |key, fault| Err(RecordsError { key, fault });
        if let Err(fault) = Source::new(&self.source) {
            return wrong("source", fault.to_string());
        }
        for (key, field) in [("symbol", &self.symbol), ("price", &self.price), ("time", &self.time)]
        {
            if field.is_empty() {
                return wrong(key, "every record needs one".to_owned());
            }
        }
        if !self.delimiter.is_ascii() || matches!(self.delimiter, '"' | '\r' | '\n') {
            return wrong("delimiter", format!("{:?} cannot separate fields", self.delimiter));
        }
        TimeFormat::new(&self.time_format, &self.time_zone)
            .or_else(|fault| wrong("time_format", fault))
    }
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NumberFormat {
    /// As programs write them: `1234.50`, `1e-7`.
    #[serde(rename = "plain")]
    Plain,
    /// As people write them, with a decimal point: `$ 1,234.50`, `1'234.50`.
    #[serde(rename = ".")]
    Point,
    /// As people write them, with a decimal comma: `1.234,50 €`, `1 234,50`.
    #[serde(rename = ",")]
    Comma,
    /// As people write them, by the numbers of the payload that can be read in one way only; one
    /// that can be read in two is rejected where there is no other.
    #[default]
    #[serde(rename = "auto")]
    Auto,
}
