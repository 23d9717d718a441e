//! A tick as finished WebSocket frames, encoded once for all who receive it.

use std::{
    collections::HashMap,
    io::Write,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use jiff::Timestamp;
use nats::Message;
use schemas::{ServerMessage, Symbol, Tick, subject};
use tracing::warn;

use crate::wire::{Kind, encode};

/// How a client wants its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// JSON text, the default.
    Json,
    /// MessagePack in binary messages: the subprotocol `lizards.v1.msgpack`.
    Msgpack,
}

/// One `price_update`. Shared by reference, with what was made of it.
///
/// A tick that nobody asked for is never decoded: an instance reads all of the stream, and its
/// clients may want little of it. In each format it is made ready for the wire when the first
/// client wants it.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Whose price it is.
    pub(crate) symbol: Symbol,
    /// Its sequence in `TICKS`.
    pub(crate) sequence: u64,
    /// When the stream stored it.
    pub(crate) stored_at: Timestamp,
    prev: u64,
    /// The tick as it came, in a buffer of its own.
    tick: Box<[u8]>,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
}

impl Frame {
    /// The finished frame, header and all. A clone shares the bytes.
    pub(crate) fn bytes(&self, format: Format) -> &Bytes {
        match format {
            Format::Json => self.json.get_or_init(|| self.price_update()),
            Format::Msgpack => self.msgpack.get_or_init(|| packed(self.text())),
        }
    }

    /// The same, marked as replayed.
    pub(crate) fn replayed(&self, format: Format) -> Bytes {
        let rest = self.text().strip_prefix(PRICE_UPDATE).unwrap_or_default();
        let text = [PRICE_UPDATE, br#""replay":true,"#, rest].concat();
        match format {
            Format::Json => encode::message(Kind::Text, &text),
            Format::Msgpack => packed(&text),
        }
    }

    /// How the messages begin and end that hold one entry in each of their formats; in MessagePack
    /// the number of entries follows.
    pub(super) const JSON_BEGINS: &[u8] = br#"{"type":"price_update","data":{"#;
    pub(super) const JSON_ENDS: &[u8] = b"}}";
    pub(super) const MSGPACK_BEGINS: &[u8] = b"\x82\xa4type\xacprice_update\xa4data";

    /// Its symbol and its price, as they stand in a message; `None` where it is no tick.
    pub(super) fn entry(&self, format: Format) -> Option<&[u8]> {
        let message = encode::payload(self.bytes(format));
        match format {
            Format::Json => message.strip_prefix(Self::JSON_BEGINS)?.strip_suffix(Self::JSON_ENDS),
            Format::Msgpack => message.strip_prefix(Self::MSGPACK_BEGINS)?.get(1..),
        }
    }

    fn text(&self) -> &[u8] {
        encode::payload(self.bytes(Format::Json))
    }

    /// Nothing where it is no tick: what the processors write is one.
    fn price_update(&self) -> Bytes {
        match serde_json::from_slice(&self.tick) {
            Ok(tick) => {
                let text = price_update(&tick, self.sequence, self.prev);
                encode::message(Kind::Text, text.as_bytes())
            }
            Err(fault) => {
                let (symbol, sequence) = (&self.symbol, self.sequence);
                warn!(%symbol, sequence, %fault, "not a tick; passed over");
                Bytes::new()
            }
        }
    }
}

/// How every one begins.
const PRICE_UPDATE: &[u8] = br#"{"type":"price_update","#;

/// The same message in MessagePack. What we have written we can read.
fn packed(text: &[u8]) -> Bytes {
    let message = std::str::from_utf8(text).ok().map(ServerMessage::from_json);
    let packed = message.and_then(Result::ok).map(|message| message.to_msgpack());
    encode::message(Kind::Binary, &packed.unwrap_or_default())
}

/// Encodes the ticks of a stream in order, and knows which tick of each symbol came before.
///
/// `prev` is the true sequence of the tick before, or 0 where this encoder has seen none of that
/// symbol. So it never shows a gap that is not there.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    newest: HashMap<Symbol, u64>,
}

impl Encoder {
    /// Takes a message of `TICKS`; `None` where its subject is not one of a tick.
    pub(crate) fn encode(&mut self, message: &Message) -> Option<Arc<Frame>> {
        let symbol = subject::symbol_of_tick(&message.subject)?;
        let prev = self.seen(&symbol, message.sequence);
        Some(Arc::new(Frame {
            symbol,
            sequence: message.sequence,
            stored_at: message.stored_at,
            prev,
            tick: (*message.body).into(),
            json: OnceLock::new(),
            msgpack: OnceLock::new(),
        }))
    }

    /// Notes a tick without encoding it, and tells the sequence of the one before it.
    pub(crate) fn seen(&mut self, symbol: &Symbol, sequence: u64) -> u64 {
        match self.newest.get_mut(symbol) {
            Some(newest) => std::mem::replace(newest, sequence),
            None => {
                self.newest.insert(symbol.clone(), sequence);
                0
            }
        }
    }
}

/// Written by hand because prices are JSON numbers with all their digits, which a serialiser has
/// no type for, and because this is done for every tick.
fn price_update(tick: &Tick, seq: u64, prev: u64) -> String {
    let mut text = Vec::with_capacity(256);
    text.extend_from_slice(PRICE_UPDATE);
    text.extend_from_slice(br#""data":{"#);
    string(&mut text, tick.symbol.as_str());
    // Writing into a Vec does not fail.
    let _ = write!(
        text,
        r#":{{"price":{},"timestamp":"{}","seq":{seq},"prev":{prev},"size":"#,
        tick.price, tick.ts
    );
    match tick.size {
        Some(size) => drop(write!(text, "{size}")),
        None => text.extend_from_slice(b"null"),
    }
    text.extend_from_slice(br#","exchange":"#);
    match &tick.exchange {
        Some(exchange) => string(&mut text, exchange),
        None => text.extend_from_slice(b"null"),
    }
    text.extend_from_slice(br#","source":"#);
    string(&mut text, tick.source.as_str());
    if !tick.flags.is_empty() {
        text.extend_from_slice(br#","flags":"#);
        // Neither does serialising a list of names.
        let _ = serde_json::to_writer(&mut text, &tick.flags);
    }
    text.extend_from_slice(b"}}}");
    String::from_utf8(text).unwrap_or_default()
}

/// A JSON string with its escapes.
fn string(text: &mut Vec<u8>, value: &str) {
    // Neither does serialising a string into one.
    let _ = serde_json::to_writer(text, value);
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use schemas::{Decimal, Flag, Source, TickKind, msgpack, subject};
    use serde_json::json;

    use super::*;

    /// A message of `TICKS` as processing would publish it.
    pub(crate) fn message(symbol: &str, price: &str, sequence: u64) -> Message {
        let symbol = Symbol::new(symbol).unwrap();
        let tick = Tick {
            id: format!("test:{sequence}"),
            symbol: symbol.clone(),
            price: Decimal::parse(price).unwrap(),
            size: Some(Decimal::parse("100").unwrap()),
            currency: "USD".into(),
            exchange: None,
            kind: TickKind::Trade,
            ts: "2024-09-14T12:34:56Z".parse().unwrap(),
            received_at: "2024-09-14T12:34:57Z".parse().unwrap(),
            source: Source::new("sim").unwrap(),
            raw_seq: sequence,
            flags: Vec::new(),
        };
        of(&tick, sequence)
    }

    fn text(frame: &Frame) -> &str {
        std::str::from_utf8(frame.text()).unwrap()
    }

    fn of(tick: &Tick, sequence: u64) -> Message {
        Message {
            subject: subject::tick(&tick.symbol),
            headers: nats::Headers::default(),
            body: Bytes::from(serde_json::to_vec(tick).unwrap()),
            sequence,
            // One second a sequence.
            stored_at: Timestamp::from_second(1_700_000_000 + sequence as i64).unwrap(),
        }
    }

    #[test]
    fn the_shape_of_the_contract_with_every_digit() {
        let mut encoder = Encoder::default();
        encoder.encode(&message("AAPL", "149", 3)).unwrap();
        let frame = encoder.encode(&message("AAPL", "150.2300", 7)).unwrap();
        assert_eq!(
            text(&frame),
            r#"{"type":"price_update","data":{"AAPL":{"price":150.2300,"timestamp":"2024-09-14T12:34:56Z","seq":7,"prev":3,"size":100,"exchange":null,"source":"sim"}}}"#
        );
        assert_eq!((frame.sequence, frame.symbol.as_str()), (7, "AAPL"));
    }

    #[test]
    fn a_flagged_tick_says_so() {
        let tick: Tick = serde_json::from_slice(&message("AAPL", "1500", 1).body).unwrap();
        let flagged = Tick { flags: vec![Flag::Outlier, Flag::PreMarket], ..tick };
        let frame = Encoder::default().encode(&of(&flagged, 1)).unwrap();
        let end = r#""source":"sim","flags":["outlier","pre_market"]}}}"#;
        assert!(text(&frame).ends_with(end), "{}", text(&frame));
        let read = ServerMessage::from_json(text(&frame)).unwrap();
        let ServerMessage::PriceUpdate { data, .. } = read else { panic!("{read:?}") };
        assert_eq!(data["AAPL"].flags, flagged.flags);
        let packed = msgpack::to_json(encode::payload(frame.bytes(Format::Msgpack))).unwrap();
        assert_eq!(packed["data"]["AAPL"]["flags"], json!(["outlier", "pre_market"]));
    }

    #[test]
    fn what_is_no_tick_is_passed_over() {
        let body = Bytes::from_static(b"{}");
        let frame = Encoder::default().encode(&Message { body, ..message("AAPL", "1", 1) });
        assert!(frame.unwrap().bytes(Format::Json).is_empty());
        let subject = "orders.AAPL".to_owned();
        let frame = Encoder::default().encode(&Message { subject, ..message("AAPL", "1", 1) });
        assert!(frame.is_none());
    }

    proptest! {
        #[test]
        fn a_client_reads_what_was_written(
            symbol in "\\PC{1,12}",
            exchange in proptest::option::of("\\PC{1,12}|[\"\\\\\n\t]{1,4}"),
            price in "-?[0-9]{1,9}(\\.[0-9]{1,12})?",
            size in proptest::option::of("[0-9]{1,9}(\\.[0-9]{1,8})?"),
            nanos in 0i128..4_000_000_000_000_000_000,
        ) {
            prop_assume!(Symbol::new(&symbol).is_ok());
            let tick = Tick {
                symbol: Symbol::new(&symbol).unwrap(),
                exchange: exchange.clone(),
                price: Decimal::parse(&price).unwrap(),
                size: size.as_deref().map(|size| Decimal::parse(size).unwrap()),
                ts: Timestamp::from_nanosecond(nanos).unwrap(),
                ..serde_json::from_slice(&message("X", "1", 1).body).unwrap()
            };
            let frame = Encoder::default().encode(&of(&tick, 9)).unwrap();
            let read = ServerMessage::from_json(text(&frame)).unwrap();
            let ServerMessage::PriceUpdate { data, .. } = read else { panic!("{read:?}") };
            let update = &data[&symbol];
            prop_assert_eq!(update.price.get(), tick.price.to_string());
            prop_assert_eq!(update.size.as_ref().map(|size| size.get().to_owned()),
                tick.size.map(|size| size.to_string()));
            prop_assert_eq!(&update.exchange, &exchange);
            prop_assert_eq!(update.timestamp, tick.ts);
            prop_assert_eq!((update.seq, update.prev), (9, 0));
            let packed = msgpack::to_json(encode::payload(frame.bytes(Format::Msgpack))).unwrap();
            let packed = &packed["data"][&symbol];
            prop_assert_eq!(&packed["price"], update.price.get());
            prop_assert_eq!(&packed["size"], &json!(tick.size));
            prop_assert_eq!(&packed["timestamp"], &tick.ts.to_string());
        }
    }
}
