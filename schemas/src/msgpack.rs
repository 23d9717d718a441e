//! The messages of the WebSocket protocol as [MessagePack](https://msgpack.org), for the subprotocol
//! `lizards.v1.msgpack`: the same fields under the same names as in JSON, in 70% of
//! the bytes. Two kinds of value are written otherwise, because here they can be exact and short:
//!
//! - a price or a size is a string of its digits (`"150.2300"`): a float could not keep them;
//! - the time of a price is MessagePack's own timestamp (extension type -1), to the nanosecond.

use jiff::Timestamp;
use rmp::encode::{self, ValueWriteError};
use rmpv::Value;

use crate::{Flag, ServerMessage, Update};

/// The name of the subprotocol, as in the header `Sec-WebSocket-Protocol`.
pub const PROTOCOL: &str = "lizards.v1.msgpack";

/// The extension type of timestamps.
const TIMESTAMP: i8 = -1;

/// Bounds how deep lists and maps may be nested. Nothing in the protocol needs more than 7.
const MAX_DEPTH: usize = 16;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// Not MessagePack, or nested too deep.
    #[error("not MessagePack: {0}")]
    Malformed(String),
    /// Something follows the first value.
    #[error("{0} bytes follow the MessagePack value")]
    Trailing(usize),
    /// MessagePack, but nothing that JSON has too, nor a timestamp.
    #[error("{0} is none of the values that the protocol uses")]
    Foreign(&'static str),
}

impl ServerMessage {
    /// As MessagePack.
    pub fn to_msgpack(&self) -> Vec<u8> {
        if let Self::PriceUpdate { data, replay } = self {
            return written(16 + 128 * data.len(), |bytes| {
                begin_prices(bytes, *replay, data.len())?;
                data.iter().try_for_each(|(symbol, update)| Price::of(symbol, update).write(bytes))
            });
        }
        // Only a map with keys that are no strings cannot be JSON, and no message has one.
        let json = serde_json::to_value(self).unwrap_or_default();
        from_json(json)
    }
}

/// The JSON value that stands for a message in MessagePack: a timestamp is a string as in RFC 3339,
/// and the rest is what it is.
pub fn to_json(bytes: &[u8]) -> Result<serde_json::Value, MsgpackError> {
    json_of(read(bytes)?)
}

fn read(bytes: &[u8]) -> Result<Value, MsgpackError> {
    let mut rest = bytes;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH)
        .map_err(|fault| MsgpackError::Malformed(fault.to_string()))?;
    if !rest.is_empty() {
        return Err(MsgpackError::Trailing(rest.len()));
    }
    Ok(value)
}

/// A JSON value as MessagePack.
pub fn from_json(json: serde_json::Value) -> Vec<u8> {
    written(64, |bytes| rmpv::encode::write_value(bytes, &of_json(json)))
}

/// The elements of an array, each as [`to_json`] has it, and each with a fault of its own.
pub fn array_to_json(
    bytes: &[u8],
) -> Result<Vec<Result<serde_json::Value, MsgpackError>>, MsgpackError> {
    match read(bytes)? {
        Value::Array(elements) => Ok(elements.into_iter().map(json_of).collect()),
        _ => Err(MsgpackError::Malformed("not an array".to_owned())),
    }
}

/// One entry of the `data` of a `price_update`.
struct Price<'a> {
    symbol: &'a str,
    price: &'a str,
    timestamp: Timestamp,
    seq: u64,
    prev: u64,
    size: Option<&'a str>,
    exchange: Option<&'a str>,
    source: &'a str,
    flags: &'a [Flag],
}

impl<'a> Price<'a> {
    fn of(symbol: &'a str, update: &'a Update) -> Self {
        Self {
            symbol,
            price: update.price.get(),
            timestamp: update.timestamp,
            seq: update.seq,
            prev: update.prev,
            size: update.size.as_ref().map(|size| size.get()),
            exchange: update.exchange.as_deref(),
            source: update.source.as_str(),
            flags: &update.flags,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) -> Written {
        encode::write_str(bytes, self.symbol)?;
        encode::write_map_len(bytes, if self.flags.is_empty() { 7 } else { 8 })?;
        encode::write_str(bytes, "price")?;
        encode::write_str(bytes, self.price)?;
        encode::write_str(bytes, "timestamp")?;
        timestamp(bytes, self.timestamp)?;
        encode::write_str(bytes, "seq")?;
        encode::write_uint(bytes, self.seq)?;
        encode::write_str(bytes, "prev")?;
        encode::write_uint(bytes, self.prev)?;
        encode::write_str(bytes, "size")?;
        optional(bytes, self.size)?;
        encode::write_str(bytes, "exchange")?;
        optional(bytes, self.exchange)?;
        encode::write_str(bytes, "source")?;
        encode::write_str(bytes, self.source)?;
        if !self.flags.is_empty() {
            encode::write_str(bytes, "flags")?;
            encode::write_array_len(bytes, u32::try_from(self.flags.len()).unwrap_or(u32::MAX))?;
            self.flags.iter().try_for_each(|flag| encode::write_str(bytes, flag.as_str()))?;
        }
        Ok(())
    }
}

type Written = Result<(), ValueWriteError>;

/// Writing into memory does not fail.
fn written(capacity: usize, write: impl FnOnce(&mut Vec<u8>) -> Written) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    let _ = write(&mut bytes);
    bytes
}

fn begin_prices(bytes: &mut Vec<u8>, replay: bool, count: usize) -> Written {
    encode::write_map_len(bytes, if replay { 3 } else { 2 })?;
    encode::write_str(bytes, "type")?;
    encode::write_str(bytes, "price_update")?;
    if replay {
        encode::write_str(bytes, "replay")?;
        encode::write_bool(bytes, true).map_err(ValueWriteError::InvalidMarkerWrite)?;
    }
    encode::write_str(bytes, "data")?;
    encode::write_map_len(bytes, u32::try_from(count).unwrap_or(u32::MAX))?;
    Ok(())
}

fn optional(bytes: &mut Vec<u8>, value: Option<&str>) -> Written {
    match value {
        Some(value) => encode::write_str(bytes, value),
        None => encode::write_nil(bytes).map_err(ValueWriteError::InvalidMarkerWrite),
    }
}

/// In the shortest of the three forms of the specification.
fn timestamp(bytes: &mut Vec<u8>, time: Timestamp) -> Written {
    const SECOND: i128 = 1_000_000_000;
    let nanoseconds = time.as_nanosecond();
    // Whole seconds go downward, before 1970 too. Both fit: a Timestamp is in the years ±9999.
    let seconds = nanoseconds.div_euclid(SECOND) as i64;
    let fraction = nanoseconds.rem_euclid(SECOND) as u32;
    let payload = match (u32::try_from(seconds), fraction) {
        (Ok(seconds), 0) => seconds.to_be_bytes().to_vec(),
        _ if (0..1 << 34).contains(&seconds) => {
            (u64::from(fraction) << 34 | seconds as u64).to_be_bytes().to_vec()
        }
        _ => [&fraction.to_be_bytes()[..], &seconds.to_be_bytes()[..]].concat(),
    };
    encode::write_ext_meta(bytes, payload.len() as u32, TIMESTAMP)?;
    bytes.extend_from_slice(&payload);
    Ok(())
}

fn time_of(payload: &[u8]) -> Option<Timestamp> {
    let (seconds, fraction) = match payload.len() {
        4 => (i64::from(u32::from_be_bytes(payload.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(payload.try_into().ok()?);
            ((both & ((1 << 34) - 1)) as i64, (both >> 34) as u32)
        }
        12 => {
            let (fraction, seconds) = payload.split_first_chunk()?;
            (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(*fraction))
        }
        _ => return None,
    };
    if fraction >= 1_000_000_000 {
        return None;
    }
    Timestamp::new(seconds, fraction as i32).ok()
}

fn of_json(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => value.into(),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => value.into(),
            (_, Some(value), _) => value.into(),
            (_, _, value) => value.map_or(Value::Nil, Value::from),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => Value::Array(items.into_iter().map(of_json).collect()),
        Json::Object(entries) => Value::Map(
            entries.into_iter().map(|(key, value)| (key.into(), of_json(value))).collect(),
        ),
    }
}

fn json_of(value: Value) -> Result<serde_json::Value, MsgpackError> {
    use serde_json::Value as Json;
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => value.into(),
        Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => value.into(),
            (_, value) => value.into(),
        },
        // By its own shortest decimal, not that of the wider float.
        Value::F32(value) => value.to_string().parse::<f64>().map_or(Json::Null, Json::from),
        Value::F64(value) => value.into(),
        Value::String(text) => {
            text.into_str().ok_or(MsgpackError::Foreign("a string that is not UTF-8"))?.into()
        }
        Value::Binary(_) => return Err(MsgpackError::Foreign("a byte array")),
        Value::Array(items) => items.into_iter().map(json_of).collect::<Result<_, _>>()?,
        Value::Map(entries) => entries
            .into_iter()
            .map(|(key, value)| match json_of(key)? {
                Json::String(key) => Ok((key, json_of(value)?)),
                _ => Err(MsgpackError::Foreign("a key that is not a string")),
            })
            .collect::<Result<serde_json::Map<_, _>, _>>()?
            .into(),
        Value::Ext(TIMESTAMP, payload) => time_of(&payload)
            .ok_or(MsgpackError::Foreign("a timestamp outside the years of a calendar"))?
            .to_string()
            .into(),
        Value::Ext(..) => return Err(MsgpackError::Foreign("an extension type")),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{json, value::RawValue};

    use super::*;
    use crate::{
        ClientError, ClientMessage, CloseReason, Closing, ErrorCode, Subscribe, Subscribed,
    };

    #[test]
    fn a_price_byte_for_byte() {
        let expected = b"\x82\xa4type\xacprice_update\xa4data\x81\xa4AAPL\x87\
            \xa5price\xa8150.2300\xa9timestamp\xd6\xff\x66\xe5\x82\xf0\xa3seq\x07\xa4prev\x03\
            \xa4size\xa3100\xa8exchange\xc0\xa6source\xa3sim";
        let json = r#"{"type":"price_update","data":{"AAPL":{"price":150.2300,"timestamp":"2024-09-14T12:34:56Z","seq":7,"prev":3,"size":100,"exchange":null,"source":"sim"}}}"#;
        assert_eq!(ServerMessage::from_json(json).unwrap().to_msgpack(), expected);
        assert!(expected.len() * 4 < json.len() * 3);
    }

    #[test]
    fn every_message_of_the_server_has_the_fields_it_has_in_json() {
        for message in [
            ServerMessage::Error(ClientError {
                message: "Invalid stock symbol: Ä".into(),
                code: ErrorCode::InvalidSymbol,
                id: Some("7".into()),
                symbols: vec!["Ä".into()],
            }),
            ServerMessage::Subscribed(Subscribed {
                symbols: vec!["A".into()],
                candles: Default::default(),
                alerts: vec!["*".into()],
                id: None,
            }),
            ServerMessage::from_json(
                r#"{"type":"alert","data":{"id":"r-7","rule":"r","condition":"A > 1.50","symbol":"A","value":"1.60","bound":"1.50","price":"1.60","ts":"2024-09-14T12:34:56Z","source":"sim","seq":7}}"#,
            )
            .unwrap(),
            ServerMessage::Heartbeat { seq: u64::MAX },
            ServerMessage::Closing(Closing {
                reason: CloseReason::TooSlow,
                retry_after_ms: 100,
                resume_from: Some(70_000),
            }),
        ] {
            let json = serde_json::to_value(&message).unwrap();
            assert_eq!(to_json(&message.to_msgpack()), Ok(json));
        }
    }

    #[test]
    fn a_request_reads_as_in_json_with_either_kind_of_time() {
        let packed = |time: &[u8]| {
            [b"\x83\xa4type\xa9subscribe\xa7symbols\x91\xa3A-*\xa9from_time", time].concat()
        };
        let expected = ClientMessage::Subscribe(Subscribe {
            symbols: vec!["A-*".into()],
            from_time: Some("2024-09-14T12:34:56Z".parse().unwrap()),
            ..Subscribe::default()
        });
        for time in [&b"\xd6\xff\x66\xe5\x82\xf0"[..], b"\xb42024-09-14T12:34:56Z"] {
            let json = to_json(&packed(time)).unwrap();
            assert_eq!(serde_json::from_value::<ClientMessage>(json).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let deep = [&[0x91; 20][..], &[0xc0]].concat();
        for (bytes, fault) in [
            (&b""[..], "not MessagePack: "),
            (b"\x82\xa1a", "not MessagePack: "),
            (b"\xdd\xff\xff\xff\xff", "not MessagePack: "),
            (&deep, "not MessagePack: "),
            (b"\xc0\xc0", "1 bytes follow the MessagePack value"),
            (b"\x81\x01\x02", "a key that is not a string is none of the values"),
            (b"\xc4\x01a", "a byte array is none of the values"),
            (b"\xa1\xff", "a string that is not UTF-8 is none"),
            (b"\xd4\x05a", "an extension type is none"),
            (b"\xd7\xff\xff\xff\xff\xff\0\0\0\0", "a timestamp outside the years"),
            (b"\xd4\xff\x01", "a timestamp outside the years"),
        ] {
            let said = to_json(bytes).unwrap_err().to_string();
            assert!(said.starts_with(fault), "{bytes:x?}: {said}");
        }
    }

    proptest! {
        #[test]
        fn a_price_reads_back_exactly(
            symbol in "\\PC{1,12}",
            exchange in proptest::option::of("\\PC{0,300}"),
            price in "-?[1-9][0-9]{0,8}(\\.[0-9]{1,12})?",
            size in proptest::option::of("[1-9][0-9]{0,8}(\\.[0-9]{1,8})?"),
            nanos in -9_000_000_000_000_000_000_i128..90_000_000_000_000_000_000,
            seq in any::<u64>(),
        ) {
            let time = Timestamp::from_nanosecond(nanos).unwrap();
            let update = json!({
                "price": 0, "timestamp": time, "seq": seq, "prev": 1, "size": null,
                "exchange": exchange, "source": "sim",
            });
            let update = Update {
                price: RawValue::from_string(price.clone()).unwrap(),
                size: size.clone().map(|size| RawValue::from_string(size).unwrap()),
                ..serde_json::from_value(update).unwrap()
            };
            let data = BTreeMap::from([(symbol.clone(), update)]);
            let json = to_json(&ServerMessage::PriceUpdate { replay: true, data }.to_msgpack()).unwrap();
            prop_assert_eq!(json, json!({"type": "price_update", "replay": true, "data": {symbol: {
                "price": price, "timestamp": time.to_string(), "seq": seq, "prev": 1,
                "size": size, "exchange": exchange, "source": "sim",
            }}}));
        }

        #[test]
        fn no_garbage_panics(garbage in any::<Vec<u8>>()) {
            let _ = to_json(&garbage);
        }
    }
}
