//! What a client asks for, from a message or from the URL.

use jiff::Timestamp;
use schemas::{ClientError, ClientMessage, ErrorCode, Subscribe, msgpack};
use serde::Deserialize;

/// How much of a client's text an error repeats, in characters.
const REPEATED: usize = 200;

/// The query of `/ws?symbols=AAPL,BTC-*&conflate_ms=100`: a `subscribe` in the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    symbols: Option<String>,
    conflate_ms: Option<u64>,
    from_seq: Option<u64>,
    from_time: Option<Timestamp>,
    speed: Option<u32>,
    id: Option<String>,
    candles: Option<String>,
    alerts: Option<String>,
    token: Option<String>,
}

/// Reads the text of a message.
pub(super) fn parse(text: &str) -> Result<ClientMessage, ClientError> {
    /// What an answer repeats, read loosely.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Beside {
        id: Option<serde_json::Value>,
    }
    serde_json::from_str(text).map_err(|fault| {
        let beside: Beside = serde_json::from_str(text).unwrap_or_default();
        let id = beside.id.and_then(|id| id.as_str().map(|id| shorten(id, REPEATED)));
        let fault = shorten(&fault.to_string(), REPEATED);
        invalid(format!("Invalid message: {fault}"), id)
    })
}

/// Reads a binary message: the same in MessagePack.
pub(super) fn parse_msgpack(bytes: &[u8]) -> Result<ClientMessage, ClientError> {
    match msgpack::to_json(bytes) {
        Ok(json) => parse(&json.to_string()),
        Err(fault) => Err(invalid(
            format!("Invalid message: {}", shorten(&fault.to_string(), REPEATED)),
            None,
        )),
    }
}

impl Query {
    /// The session token, if there is one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The `subscribe` that the address stands for; `None` where it asks for nothing. A symbol
    /// with a comma in its name cannot be asked for here.
    pub(super) fn into_request(self) -> Option<ClientMessage> {
        let asks = [&self.symbols, &self.candles, &self.alerts].into_iter().any(Option::is_some);
        if !asks && self.conflate_ms.is_none() {
            return None;
        }
        Some(ClientMessage::Subscribe(self.into_subscribe()))
    }

    /// The same, whatever it asks for.
    pub(crate) fn into_subscribe(self) -> Subscribe {
        let Self { conflate_ms, from_seq, from_time, speed, id, .. } = self;
        let [symbols, candles, alerts] = [self.symbols, self.candles, self.alerts].map(list);
        Subscribe { symbols, candles, alerts, conflate_ms, from_seq, from_time, speed, id }
    }
}

/// What stands between commas.
fn list(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// An `error` with the code `invalid_message`.
pub(crate) fn invalid(message: impl Into<String>, id: Option<String>) -> ClientError {
    ClientError { message: message.into(), code: ErrorCode::InvalidMessage, id, symbols: vec![] }
}

/// The first characters of a text.
pub(super) fn shorten(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_answered_with_its_fault_and_its_id() {
        let error = parse(r#"{"type":"shout","id":"7"}"#).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidMessage);
        assert_eq!(error.id.as_deref(), Some("7"));
        assert!(error.message.contains("shout"), "{}", error.message);
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(10_000));
        assert!(parse(&long).unwrap_err().message.len() < 300);
        for text in ["", "[]", "nonsense", r#"{"symbols":[]}"#, r#"{"type":"unsubscribe"}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_fields_are_not_noticed() {
        let text = r#"{"type":"subscribe","symbols":["A"],"colour":"red"}"#;
        assert!(parse(text).is_ok());
    }

    #[test]
    fn msgpack_is_read_like_json() {
        let text = br#"{"type":"unsubscribe","symbols":["A"]}"#;
        let packed = b"\x82\xa4type\xabunsubscribe\xa7symbols\x91\xa1A";
        let expected = parse(std::str::from_utf8(text).unwrap()).unwrap();
        assert_eq!(parse_msgpack(packed), Ok(expected));
        let error = parse_msgpack(text).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidMessage);
        assert!(error.message.starts_with("Invalid message: "), "{}", error.message);
    }

    #[test]
    fn an_address_is_a_subscribe() {
        let query = Query {
            symbols: Some("AAPL,,BTC-*".into()),
            candles: Some("1m,1d".into()),
            ..Query::default()
        };
        let Some(ClientMessage::Subscribe(subscribe)) = query.into_request() else {
            panic!("no subscribe")
        };
        assert_eq!(subscribe.symbols, ["AAPL", "BTC-*"]);
        assert_eq!(subscribe.candles, ["1m", "1d"]);
        assert_eq!(Query::default().into_request(), None);
    }
}
