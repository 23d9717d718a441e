//! The normalised tick.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::{Validate, ValidationError};

use crate::{Decimal, Flag, Source, Symbol};

/// What a tick tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TickKind {
    /// One trade print.
    Trade,
    /// A quoted price.
    Quote,
    /// The close of a bar.
    Bar,
}

impl TickKind {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Quote => "quote",
            Self::Bar => "bar",
        }
    }
}

/// One price of one symbol at one time: a message of `TICKS`, a row of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
pub struct Tick {
    /// The same provider event always has the same id, and two events never share one.
    #[validate(length(min = 1, max = 200))]
    pub id: String,
    /// The symbol as its source writes it.
    pub symbol: Symbol,
    /// The price in `currency`, exactly as it was sent.
    #[validate(custom(function = positive))]
    pub price: Decimal,
    /// How many were traded or are offered, in units of the symbol.
    #[validate(custom(function = not_negative))]
    pub size: Option<Decimal>,
    /// The currency of the price: an ISO 4217 code or the ticker of a coin.
    #[validate(length(min = 2, max = 10))]
    pub currency: String,
    /// The venue as its source names it.
    #[validate(length(min = 1, max = 64))]
    pub exchange: Option<String>,
    /// Trade, quote or bar.
    pub kind: TickKind,
    /// When it happened (event time), UTC, with up to nanoseconds.
    #[schemars(with = "Utc")]
    pub ts: Timestamp,
    /// When we received it, UTC, with up to nanoseconds.
    #[schemars(with = "Utc")]
    pub received_at: Timestamp,
    /// Where it came from.
    pub source: Source,
    /// The sequence in `TICKS_RAW` of the payload it came from.
    pub raw_seq: u64,
    /// What the rules found remarkable; left out where that is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
}

/// The id of the `index`th event (from 0) in the payload with the message id `raw_id`.
pub fn event_id(raw_id: &str, index: usize) -> String {
    format!("{raw_id}.{index}")
}

/// The index in an [`event_id`].
pub fn event_index(id: &str) -> Option<usize> {
    id.rsplit_once('.')?.1.parse().ok()
}

fn positive(price: &Decimal) -> Result<(), ValidationError> {
    refuse_unless(price.is_positive(), "must be greater than zero", price)
}

fn not_negative(size: &Decimal) -> Result<(), ValidationError> {
    refuse_unless(!size.is_negative(), "must not be negative", size)
}

fn refuse_unless(right: bool, rule: &'static str, value: &Decimal) -> Result<(), ValidationError> {
    if right {
        return Ok(());
    }
    let mut error = ValidationError::new("range");
    error.message = Some(format!("{value} {rule}").into());
    Err(error)
}

/// How JSON Schema names a UTC time.
pub(crate) struct Utc;

impl JsonSchema for Utc {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Utc".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, UTC, with up to nanoseconds.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick() -> Tick {
        Tick {
            id: event_id("file:3f:17", 0),
            symbol: Symbol::new("IBM").unwrap(),
            price: Decimal::parse("184.2100").unwrap(),
            size: Some(Decimal::parse("100").unwrap()),
            currency: "USD".into(),
            exchange: Some("P".into()),
            kind: TickKind::Trade,
            ts: "2013-10-07T13:30:00.123456789Z".parse().unwrap(),
            received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
            source: Source::new("file").unwrap(),
            raw_seq: 18,
            flags: Vec::new(),
        }
    }

    #[test]
    fn as_json_it_is_what_the_contract_says() {
        let json = serde_json::to_string(&tick()).unwrap();
        assert_eq!(
            json,
            r#"{"id":"file:3f:17.0","symbol":"IBM","price":"184.2100","size":"100","currency":"USD","exchange":"P","kind":"trade","ts":"2013-10-07T13:30:00.123456789Z","received_at":"2024-01-01T00:00:00Z","source":"file","raw_seq":18}"#
        );
        assert_eq!(serde_json::from_str::<Tick>(&json).unwrap(), tick());
        let flagged = Tick { flags: vec![Flag::Outlier, Flag::PostMarket], ..tick() };
        let json = serde_json::to_string(&flagged).unwrap();
        assert!(json.ends_with(r#","raw_seq":18,"flags":["outlier","post_market"]}"#), "{json}");
        assert_eq!(serde_json::from_str::<Tick>(&json).unwrap(), flagged);
    }

    #[test]
    fn its_shape_is_checked_field_by_field() {
        assert!(tick().validate().is_ok());
        let no_price = Tick { price: Decimal::ZERO, ..tick() };
        assert!(no_price.validate().unwrap_err().field_errors().contains_key("price"));
        let short = Tick { size: Some(Decimal::parse("-1").unwrap()), ..tick() };
        assert!(short.validate().unwrap_err().field_errors().contains_key("size"));
        let nowhere = Tick { exchange: Some(String::new()), ..tick() };
        assert!(nowhere.validate().unwrap_err().field_errors().contains_key("exchange"));
    }
}
