//! A message of Finnhub's stream of trades: one or several, of one symbol or several. See
//! <https://finnhub.io/docs/api/websocket-trades>.
//!
//! A trade has no number and no currency. A symbol with an exchange before it (`BINANCE:BTCUSDT`,
//! `OANDA:EUR_USD`) is priced in the second currency of its pair, and any other, a stock, in the
//! configured one.

use schemas::{Rejection, TickKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Decoded, Event, MAX_EVENTS, Nth, invalid,
    json::{self, Field},
    malformed, missing, pair, text, too_many,
};

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    kind: Field<'a>,
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow, rename = "s")]
    symbol: Field<'a>,
    #[serde(borrow, rename = "p")]
    price: Field<'a>,
    #[serde(borrow, rename = "v")]
    volume: Field<'a>,
    /// Milliseconds since 1970.
    #[serde(borrow, rename = "t")]
    time: Field<'a>,
}

pub(super) fn decode(body: &[u8], currency: &str, events: &mut Vec<Event>) {
    let trades = match trades(body) {
        Ok(trades) => trades,
        Err(rejection) => return events.push(Err(rejection)),
    };
    let trades = (1..).map(Nth).zip(trades);
    events.extend(trades.map(|(nth, data)| json::at(&nth, || trade(data, currency))));
}

fn trades(body: &[u8]) -> Result<Vec<&RawValue>, Rejection> {
    let payload: Payload<'_> = json::object(body)?;
    match &*json::string("type", payload.kind)? {
        "trade" => {}
        other => return Err(malformed(format!("type: {:?} is not trade", text::shorten(other)))),
    }
    let trades = payload.data.unwrap_or_default();
    match trades.len() {
        0 => Err(missing("data", &": there is no trade in it")),
        1..=MAX_EVENTS => Ok(trades),
        _ => Err(too_many("trades")),
    }
}

fn trade(data: &RawValue, otherwise: &str) -> Event {
    let trade: Trade<'_> = json::object(data.get().as_bytes())?;
    let symbol = json::symbol("s", trade.symbol)?;
    let (exchange, currency) = match symbol.as_str().split_once(':') {
        None => (None, otherwise),
        Some((exchange, pair)) => {
            let Some(currency) = pair::quote(pair) else {
                let fault = format!("{:?} is in no currency that is known", symbol.as_str());
                return Err(invalid("s", &"", fault));
            };
            (Some(exchange.to_owned()), currency)
        }
    };
    let time = json::integer("t", trade.time)?.to_string();
    Ok(Decoded {
        price: json::number("p", trade.price)?,
        size: json::optional_number("v", trade.volume)?,
        currency: currency.to_owned(),
        exchange,
        kind: TickKind::Trade,
        ts: text::epoch_millis("t", &"", &time)?,
        identity: None,
        symbol,
    })
}
