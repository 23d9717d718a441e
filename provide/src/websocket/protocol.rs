//! In which of its forms the protocol is spoken on one connection.

use axum::http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL};
use bytes::Bytes;
use schemas::{ServerMessage, msgpack};

use crate::wire::{Kind, encode};

/// The form of the messages, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// JSON text: the default.
    Json,
    /// `lizards.v1.msgpack`: MessagePack in binary messages.
    Msgpack,
}

impl Protocol {
    /// What a client asks for in its handshake. A name that we do not know is not answered, and
    /// JSON is spoken: a client that insists on its protocol closes then (RFC 6455, section 4.1).
    pub(super) fn choose(headers: &HeaderMap) -> Self {
        let asks_for_msgpack = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim() == msgpack::PROTOCOL);
        if asks_for_msgpack { Self::Msgpack } else { Self::Json }
    }

    /// The name to answer with.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Json => None,
            Self::Msgpack => Some(msgpack::PROTOCOL),
        }
    }

    /// A message, ready for the wire.
    pub(super) fn frame(self, message: &ServerMessage) -> Bytes {
        match self {
            // Only a map with keys that are no strings cannot be JSON, and no message has one.
            Self::Json => {
                encode::message(Kind::Text, &serde_json::to_vec(message).unwrap_or_default())
            }
            Self::Msgpack => encode::message(Kind::Binary, &message.to_msgpack()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn choose(offers: &[&'static str]) -> Protocol {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer));
        }
        Protocol::choose(&headers)
    }

    #[test]
    fn msgpack_is_spoken_with_whom_asks_for_it() {
        for offers in [
            &["lizards.v1.msgpack"][..],
            &["foo, lizards.v1.msgpack"],
            &["foo", "lizards.v1.msgpack,bar"],
        ] {
            assert_eq!(choose(offers), Protocol::Msgpack, "{offers:?}");
        }
        for offers in [&[][..], &["mqtt"], &["lizards.v2.msgpack"], &["LIZARDS.V1.MSGPACK"]] {
            assert_eq!(choose(offers), Protocol::Json, "{offers:?}");
        }
        assert_eq!(Protocol::Msgpack.name(), Some("lizards.v1.msgpack"));
    }

    #[test]
    fn a_message_is_text_or_binary() {
        let message = ServerMessage::Heartbeat { seq: 7 };
        assert_eq!(
            Protocol::Json.frame(&message)[..],
            *b"\x81\x1c{\"type\":\"heartbeat\",\"seq\":7}"
        );
        assert_eq!(Protocol::Msgpack.frame(&message)[..3], *b"\x82\x15\x82");
    }
}
