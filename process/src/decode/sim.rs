//! A tick of the simulator: a JSON object with `symbol`, `price`, `ts` (RFC 3339) and optionally
//! `size`, `exchange`, `currency` and `trade`, which tells the trade from all others.

use schemas::TickKind;
use serde::Deserialize;

use super::{
    Decoded, Event,
    json::{self, Field},
};

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    symbol: Field<'a>,
    #[serde(borrow)]
    price: Field<'a>,
    #[serde(borrow)]
    size: Field<'a>,
    #[serde(borrow)]
    exchange: Field<'a>,
    #[serde(borrow)]
    currency: Field<'a>,
    #[serde(borrow)]
    ts: Field<'a>,
    #[serde(borrow)]
    trade: Field<'a>,
}

pub(super) fn decode(body: &[u8], currency: &str) -> Event {
    let payload: Payload<'_> = json::object(body)?;
    let stated = json::optional_string("currency", payload.currency)?;
    Ok(Decoded {
        identity: json::optional_string("trade", payload.trade)?.map(Into::into),
        symbol: json::symbol("symbol", payload.symbol)?,
        price: json::number("price", payload.price)?,
        size: json::optional_number("size", payload.size)?,
        currency: stated.map_or_else(|| currency.to_owned(), Into::into),
        exchange: json::optional_string("exchange", payload.exchange)?.map(Into::into),
        kind: TickKind::Trade,
        ts: json::time("ts", payload.ts)?,
    })
}
