//! The messages of the WebSocket protocol, as JSON text. The four shapes `subscribe`,
//! `unsubscribe`, `price_update` and `error` are fixed for ever; the rest is added beside them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{CandleUpdate, Flag, Source, alert::Alert, tick::Utc};

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Adds symbols to what the connection receives.
    Subscribe(Subscribe),
    /// Takes symbols from what the connection receives.
    Unsubscribe(Unsubscribe),
}

/// The body of a `subscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribe {
    /// Symbols, prefixes such as `BTC-*`, or `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
    /// Candles of these symbols, too, of these lengths: any of `1s`, `5s`, `1m`, `5m`, `15m`, `1h`
    /// and `1d`. The newest ones come first, then those that close, those that are restated, and now
    /// and then the ones that are running. A start in the past, and conflation, are for prices only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candles: Vec<String>,
    /// Alerts of these rules, by their ids, or `*` for all that this client may see, from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// At most one update per symbol in so many milliseconds, always the newest. It holds for the
    /// whole connection; 0 turns it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflate_ms: Option<u64>,
    /// Everything after this sequence of `TICKS`, then live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<u64>,
    /// Everything stored from this time on, then live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Utc>")]
    pub from_time: Option<Timestamp>,
    /// With `from_time` or `from_seq`: play the past at so many times the pace at which the stream
    /// stored it, each update marked with `"replay":true`; where it reaches the present it goes on
    /// live, unmarked. Without it the past comes as fast as it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u32>,
    /// Echoed in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The body of an `unsubscribe`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsubscribe {
    /// Symbols or patterns, as they were subscribed.
    pub symbols: Vec<String>,
    /// Only their candles of these lengths; where there are none, prices and all candles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candles: Vec<String>,
    /// Alerts of these rules, or `*`, as they were subscribed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// Echoed in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What the server sends. In the subprotocol `lizards.v1.msgpack` the fields are the same, but prices
/// and sizes are strings of their digits, and the timestamp of a price is MessagePack's timestamp
/// extension (type -1).
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// New prices, by symbol.
    PriceUpdate {
        /// It is of a replay at a pace, not live.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        replay: bool,
        /// One entry per symbol.
        data: BTreeMap<String, Update>,
    },
    /// A candle that closed, was restated or is running.
    Candle {
        /// The candle.
        data: CandleUpdate,
    },
    /// A rule has come true.
    Alert {
        /// Which, and with what.
        data: Alert,
    },
    /// Something the client asked for cannot be done; the connection goes on.
    Error(ClientError),
    /// The whole set that the connection is now subscribed to.
    Subscribed(Subscribed),
    /// Nothing to send, and alive.
    Heartbeat {
        /// The newest sequence of `TICKS` that this instance has seen.
        seq: u64,
    },
    /// The server closes next, as planned.
    Closing(Closing),
}

/// The body of an `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientError {
    /// For people.
    pub message: String,
    /// For programs; stable.
    pub code: ErrorCode,
    /// The `id` of the request it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The symbols it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
}

/// The stable codes of [`ClientError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No source delivers that symbol, or it is not a symbol at all.
    InvalidSymbol,
    /// The message is not one of the protocol.
    InvalidMessage,
    /// Candles have no such length.
    InvalidInterval,
    /// More symbols than one connection may have.
    TooManySymbols,
    /// The start asked for is older than what is kept: the replay begins later.
    HistoryTruncated,
    /// It cannot be done now; trying again later may help.
    Unavailable,
    /// The session token does not allow that symbol.
    Forbidden,
    /// The client says more than it may; the connection is closed.
    TooManyMessages,
}

/// The body of a `subscribed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscribed {
    /// All symbols and patterns of the connection, sorted.
    pub symbols: Vec<String>,
    /// Those of which it receives candles, by length.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub candles: BTreeMap<String, Vec<String>>,
    /// The rules of which it receives alerts, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// The `id` of the request it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The body of a `closing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Closing {
    /// `shutdown`, `too_slow` or `stream_break`.
    pub reason: CloseReason,
    /// When to come back, in milliseconds.
    pub retry_after_ms: u64,
    /// The sequence of `TICKS` to resume from (`from_seq`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_from: Option<u64>,
}

/// Why the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The instance stops; another may serve. WebSocket close code 1001.
    Shutdown,
    /// The client read too slowly. WebSocket close code 4008.
    TooSlow,
    /// Ticks went by unseen, or the stream was made anew and its sequences begin again. WebSocket
    /// close code 1012.
    StreamBreak,
}

impl CloseReason {
    /// The WebSocket close code: 1001 is RFC 6455's "going away", 1012 is IANA's "service
    /// restart", 4000 and up are private use.
    pub fn code(self) -> u16 {
        match self {
            Self::Shutdown => 1001,
            Self::TooSlow => 4008,
            Self::StreamBreak => 1012,
        }
    }
}

/// The newest price of one symbol.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Update {
    /// The price with all its digits, as a JSON number.
    #[schemars(with = "f64")]
    pub price: Box<RawValue>,
    /// When it happened, UTC.
    #[schemars(with = "Utc")]
    pub timestamp: Timestamp,
    /// The sequence of the tick in `TICKS`.
    pub seq: u64,
    /// The sequence of the tick of this symbol before it; 0 where this is the first.
    pub prev: u64,
    /// How many were traded, as a JSON number.
    #[schemars(with = "Option<f64>")]
    pub size: Option<Box<RawValue>>,
    /// The venue.
    pub exchange: Option<String>,
    /// Where it came from.
    pub source: Source,
    /// What the rules found remarkable; left out where that is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
}

impl ServerMessage {
    /// Reads a message of the server, as a client does.
    ///
    /// Written by hand because serde buffers an internally tagged enum, and a buffered number is a
    /// binary float.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Tag {
            r#type: String,
        }
        #[derive(Deserialize)]
        struct PriceUpdate {
            #[serde(default)]
            replay: bool,
            data: BTreeMap<String, Update>,
        }
        #[derive(Deserialize)]
        struct Candle {
            data: CandleUpdate,
        }
        #[derive(Deserialize)]
        struct Fired {
            data: Alert,
        }
        #[derive(Deserialize)]
        struct Heartbeat {
            seq: u64,
        }
        Ok(match serde_json::from_str::<Tag>(text)?.r#type.as_str() {
            "price_update" => {
                let PriceUpdate { replay, data } = serde_json::from_str(text)?;
                Self::PriceUpdate { replay, data }
            }
            "candle" => Self::Candle { data: serde_json::from_str::<Candle>(text)?.data },
            "alert" => Self::Alert { data: serde_json::from_str::<Fired>(text)?.data },
            "error" => Self::Error(serde_json::from_str(text)?),
            "subscribed" => Self::Subscribed(serde_json::from_str(text)?),
            "heartbeat" => Self::Heartbeat { seq: serde_json::from_str::<Heartbeat>(text)?.seq },
            "closing" => Self::Closing(serde_json::from_str(text)?),
            other => {
                return Err(serde::de::Error::custom(format!("unknown message type {other:?}")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_fixed_shapes() {
        let subscribe: ClientMessage =
            serde_json::from_str(r#"{"type":"subscribe","symbols":["AAPL","TSLA"]}"#).unwrap();
        assert_eq!(
            subscribe,
            ClientMessage::Subscribe(Subscribe {
                symbols: vec!["AAPL".into(), "TSLA".into()],
                ..Subscribe::default()
            })
        );
        let unsubscribe: ClientMessage =
            serde_json::from_str(r#"{"type":"unsubscribe","symbols":["AAPL"]}"#).unwrap();
        assert!(matches!(unsubscribe, ClientMessage::Unsubscribe(_)));
        let error = ServerMessage::Error(ClientError {
            message: "Invalid stock symbol: XYZ".into(),
            code: ErrorCode::InvalidSymbol,
            id: None,
            symbols: vec!["XYZ".into()],
        });
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            r#"{"type":"error","message":"Invalid stock symbol: XYZ","code":"invalid_symbol","symbols":["XYZ"]}"#
        );
    }

    #[test]
    fn a_price_keeps_its_digits_as_a_json_number() {
        let text = r#"{"type":"price_update","data":{"AAPL":{"price":150.2300,"timestamp":"2024-09-14T12:34:56Z","seq":7,"prev":3,"size":100,"exchange":null,"source":"sim"}}}"#;
        let message = ServerMessage::from_json(text).unwrap();
        let ServerMessage::PriceUpdate { data, .. } = &message else { panic!("{message:?}") };
        assert_eq!(data["AAPL"].price.get(), "150.2300");
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }

    #[test]
    fn a_message_of_another_type_is_an_error() {
        assert!(serde_json::from_str::<ClientMessage>(r#"{"type":"shout"}"#).is_err());
        assert!(ServerMessage::from_json(r#"{"type":"shout"}"#).is_err());
    }
}
