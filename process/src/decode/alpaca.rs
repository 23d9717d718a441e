//! A message of Alpaca's stream of stock trades: an array, of one trade or several, of one stock or
//! several, as JSON or as MessagePack. See
//! <https://docs.alpaca.markets/docs/real-time-stock-pricing-data>.
//!
//! In MessagePack numbers are binary floats. Each is read as the shortest decimal that is that float
//! and no other: the number that Alpaca had before it became one, for none has more than 15 digits.
//! Times are then MessagePack's timestamps.
//!
//! A trade's number (`i`) tells it from the others of its stock, exchange (`x`) and day only, so its
//! identity is all of these, with the time for the day. Corrections (`c`) and cancellations (`x`) of
//! trades are rejected: a tick is never taken back.

use schemas::{Rejection, TickKind, msgpack};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Decoded, Event, MAX_EVENTS, Nth, invalid,
    json::{self, Field},
    malformed, missing, text, too_many,
};

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow, rename = "T")]
    kind: Field<'a>,
    #[serde(borrow, rename = "i")]
    number: Field<'a>,
    #[serde(borrow, rename = "S")]
    symbol: Field<'a>,
    #[serde(borrow, rename = "x")]
    exchange: Field<'a>,
    #[serde(borrow, rename = "p")]
    price: Field<'a>,
    #[serde(borrow, rename = "s")]
    size: Field<'a>,
    #[serde(borrow, rename = "t")]
    time: Field<'a>,
}

pub(super) fn decode_json(body: &[u8], events: &mut Vec<Event>) {
    let elements: Vec<&RawValue> = match serde_json::from_slice(body) {
        Ok(elements) => elements,
        Err(fault) => {
            let fault = format!("the payload is not a JSON array: {fault}");
            return events.push(Err(malformed(fault)));
        }
    };
    let elements = elements.into_iter().map(RawValue::get);
    all(elements, events, |nth, element| json::at(nth, || trade(element)));
}

pub(super) fn decode_msgpack(body: &[u8], events: &mut Vec<Event>) {
    let elements = match msgpack::array_to_json(body) {
        Ok(elements) => elements,
        Err(fault) => return events.push(Err(malformed(format!("the payload is {fault}")))),
    };
    all(elements.into_iter(), events, |nth, element| {
        json::at(nth, || match element {
            Ok(element) => trade(&element.to_string()),
            Err(fault) => Err(malformed(fault.to_string())),
        })
    });
}

fn all<T>(
    elements: impl ExactSizeIterator<Item = T>,
    events: &mut Vec<Event>,
    read: impl Fn(&Nth, T) -> Event,
) {
    match elements.len() {
        0 => events.push(Err(missing("T", &": there is no trade in it"))),
        1..=MAX_EVENTS => {
            events.extend((1..).map(Nth).zip(elements).map(|(nth, element)| read(&nth, element)));
        }
        _ => events.push(Err(too_many("trades"))),
    }
}

fn trade(element: &str) -> Event {
    let trade: Trade<'_> = json::object(element.as_bytes())?;
    check_kind(trade.kind)?;
    let exchange = json::string("x", trade.exchange)?;
    let number = json::integer("i", trade.number)?;
    let ts = json::time("t", trade.time)?;
    Ok(Decoded {
        symbol: json::symbol("S", trade.symbol)?,
        price: json::number("p", trade.price)?,
        size: Some(json::number("s", trade.size)?),
        currency: "USD".to_owned(),
        identity: Some(format!("{exchange}:{number}:{}", ts.as_nanosecond())),
        exchange: Some(exchange.into_owned()),
        kind: TickKind::Trade,
        ts,
    })
}

fn check_kind(kind: Field<'_>) -> Result<(), Rejection> {
    match &*json::string("T", kind)? {
        "t" => Ok(()),
        "c" => Err(invalid("T", &"", "\"c\" is a correction of a trade, not a trade")),
        "x" => Err(invalid("T", &"", "\"x\" is the cancellation of a trade, not a trade")),
        other => Err(invalid("T", &"", format!("{:?} is not a trade", text::shorten(other)))),
    }
}
