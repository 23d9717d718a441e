//! A trade of Binance's WebSocket streams, by itself or wrapped as a combined stream does. See "Trade
//! Streams" in <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>.
//!
//! Times are in milliseconds since 1970, or in microseconds where the address asks for that; they
//! are told by their size, for what is 100 years in the one is 100,000 in the other.

use schemas::TickKind;
use serde::Deserialize;

use super::{
    Decoded, Event, invalid,
    json::{self, Field},
    malformed, pair, text,
};

#[derive(Deserialize)]
struct Payload<'a> {
    /// Of a combined stream.
    #[serde(borrow)]
    data: Field<'a>,
    #[serde(borrow, rename = "e")]
    event: Field<'a>,
    #[serde(borrow, rename = "s")]
    symbol: Field<'a>,
    #[serde(borrow, rename = "p")]
    price: Field<'a>,
    #[serde(borrow, rename = "q")]
    quantity: Field<'a>,
    #[serde(borrow, rename = "T")]
    time: Field<'a>,
}

/// The first time that is taken for microseconds; in milliseconds it is in the year 5138.
const MICROSECONDS_FROM: u64 = 100_000_000_000_000;

pub(super) fn decode(body: &[u8]) -> Event {
    let mut payload: Payload<'_> = json::object(body)?;
    if let Some(wrapped) = payload.data {
        payload = json::object(wrapped.get().as_bytes())?;
    }
    match &*json::string("e", payload.event)? {
        "trade" => {}
        other => return Err(malformed(format!("e: {:?} is not trade", text::shorten(other)))),
    }
    let symbol = json::symbol("s", payload.symbol)?;
    let Some(currency) = pair::quote(symbol.as_str()) else {
        let fault = format!("{:?} is in no currency that is known", symbol.as_str());
        return Err(invalid("s", &"", fault));
    };
    let time = json::integer("T", payload.time)?;
    let written = time.to_string();
    let ts = match time {
        MICROSECONDS_FROM.. => text::epoch_micros("T", &"", &written)?,
        _ => text::epoch_millis("T", &"", &written)?,
    };
    Ok(Decoded {
        price: json::number("p", payload.price)?,
        size: Some(json::number("q", payload.quantity)?),
        currency: currency.to_owned(),
        exchange: Some("binance".to_owned()),
        kind: TickKind::Trade,
        ts,
        identity: None,
        symbol,
    })
}
