//! A message of the channel `trade` of Kraken's WebSocket feed, version 2: one trade or several, of
//! one pair or of several. See <https://docs.kraken.com/api/docs/websocket-v2/trade>.
//!
//! Prices and sizes are JSON numbers; they are read from their text, so no digit is lost.

use schemas::TickKind;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Decoded, Event, MAX_EVENTS, Nth, invalid,
    json::{self, Field},
    malformed, missing, text, too_many,
};

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    channel: Field<'a>,
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow)]
    symbol: Field<'a>,
    #[serde(borrow)]
    price: Field<'a>,
    #[serde(borrow)]
    qty: Field<'a>,
    #[serde(borrow)]
    trade_id: Field<'a>,
    #[serde(borrow)]
    timestamp: Field<'a>,
}

pub(super) fn decode(body: &[u8], events: &mut Vec<Event>) {
    let trades = match trades(body) {
        Ok(trades) => trades,
        Err(rejection) => return events.push(Err(rejection)),
    };
    events.extend((1..).map(Nth).zip(trades).map(|(nth, data)| trade(&nth, data)));
}

fn trades(body: &[u8]) -> Result<Vec<&RawValue>, schemas::Rejection> {
    let payload: Payload<'_> = json::object(body)?;
    match &*json::string("channel", payload.channel)? {
        "trade" => {}
        other => {
            return Err(malformed(format!("channel: {:?} is not trade", text::shorten(other))));
        }
    }
    let trades = payload.data.unwrap_or_default();
    match trades.len() {
        0 => Err(missing("data", &": there is no trade in it")),
        1..=MAX_EVENTS => Ok(trades),
        _ => Err(too_many("trades")),
    }
}

fn trade(nth: &Nth, data: &RawValue) -> Event {
    json::at(nth, || {
        let trade: Trade<'_> = json::object(data.get().as_bytes())?;
        let symbol = json::symbol("symbol", trade.symbol)?;
        let Some((_base, quote)) = symbol.as_str().split_once('/') else {
            let fault =
                format!("{:?} does not name its currency, as BTC/USD does", symbol.as_str());
            return Err(invalid("symbol", &"", fault));
        };
        Ok(Decoded {
            price: json::number("price", trade.price)?,
            size: Some(json::number("qty", trade.qty)?),
            currency: quote.to_owned(),
            exchange: Some("kraken".to_owned()),
            kind: TickKind::Trade,
            ts: json::time("timestamp", trade.timestamp)?,
            identity: Some(json::integer("trade_id", trade.trade_id)?.to_string()),
            symbol,
        })
    })
}
