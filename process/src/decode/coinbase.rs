//! A `match` of Coinbase Exchange's WebSocket feed, and the `last_match` that greets a subscriber.
//! See "Match" under <https://docs.cdp.coinbase.com/exchange/websocket-feed/channels>.

use schemas::{Reason, Rejection, TickKind};
use serde::Deserialize;

use super::{
    Decoded, Event, invalid,
    json::{self, Field},
    malformed, text,
};

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow)]
    product_id: Field<'a>,
    #[serde(borrow)]
    price: Field<'a>,
    #[serde(borrow)]
    size: Field<'a>,
    #[serde(borrow)]
    time: Field<'a>,
    /// Of an `error`.
    #[serde(borrow)]
    message: Field<'a>,
}

pub(super) fn decode(body: &[u8]) -> Event {
    let payload: Payload<'_> = json::object(body)?;
    match &*json::string("type", payload.kind)? {
        "match" | "last_match" => {}
        "error" => {
            let said = payload.message.map_or("nothing more", |message| message.get());
            return Err(Rejection::decode(Reason::ProviderError, format!("error: {said}")));
        }
        other => {
            return Err(malformed(format!("type: {:?} is not match", text::shorten(other))));
        }
    }
    let symbol = json::symbol("product_id", payload.product_id)?;
    let Some((_base, quote)) = symbol.as_str().split_once('-') else {
        return Err(invalid(
            "product_id",
            &"",
            format!("{:?} does not name its currency, as BTC-USD does", symbol.as_str()),
        ));
    };
    Ok(Decoded {
        identity: None,
        price: json::number("price", payload.price)?,
        size: Some(json::number("size", payload.size)?),
        currency: quote.to_owned(),
        exchange: Some("coinbase".to_owned()),
        kind: TickKind::Trade,
        ts: json::time("time", payload.time)?,
        symbol,
    })
}
