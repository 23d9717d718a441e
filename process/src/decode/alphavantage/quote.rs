//! The answer of Alpha Vantage's `GLOBAL_QUOTE`: <https://www.alphavantage.co/documentation/>.
//!
//! It names a trading day but no time, so the quote is dated when it was received. It answers
//! errors and rate limits with status 200 and a `Note`, an `Information` or an `Error Message`,
//! and a symbol it does not know with an empty `Global Quote`.

use jiff::Timestamp;
use schemas::{Reason, Rejection, TickKind};
use serde::Deserialize;

use crate::decode::{
    Decoded, Event,
    json::{self, Field},
    missing,
};

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "Global Quote")]
    quote: Field<'a>,
    #[serde(borrow, rename = "Note")]
    note: Field<'a>,
    #[serde(borrow, rename = "Information")]
    information: Field<'a>,
    #[serde(borrow, rename = "Error Message")]
    error: Field<'a>,
}

#[derive(Deserialize)]
struct Quote<'a> {
    #[serde(borrow, rename = "01. symbol")]
    symbol: Field<'a>,
    #[serde(borrow, rename = "05. price")]
    price: Field<'a>,
    /// Of the trading day so far.
    #[serde(borrow, rename = "06. volume")]
    volume: Field<'a>,
}

pub(in crate::decode) fn decode(body: &[u8], received_at: Timestamp, currency: &str) -> Event {
    let payload: Payload<'_> = json::object(body)?;
    let said = [
        ("Error Message", payload.error),
        ("Note", payload.note),
        ("Information", payload.information),
    ];
    for (name, field) in said {
        if let Some(said) = field {
            let detail = format!("{name}: {}", said.get());
            return Err(Rejection::decode(Reason::ProviderError, detail));
        }
    }
    let quote = payload.quote.ok_or_else(|| missing("Global Quote", &""))?;
    let quote: Quote<'_> = json::object(quote.get().as_bytes())?;
    if quote.symbol.is_none() && quote.price.is_none() {
        return Err(missing("Global Quote", &": it is empty, as for an unknown symbol"));
    }
    Ok(Decoded {
        identity: None,
        symbol: json::symbol("Global Quote.01. symbol", quote.symbol)?,
        price: json::number("Global Quote.05. price", quote.price)?,
        size: json::optional_number("Global Quote.06. volume", quote.volume)?,
        currency: currency.to_owned(),
        exchange: None,
        kind: TickKind::Quote,
        ts: received_at,
    })
}
