//! In which form the protocol is spoken on one connection.

use axum::http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL};
use schemas::msgpack;

use crate::hub::Format;

/// What a client asks for in its handshake, and the name to answer with. A name that we do not know
/// is not answered, and JSON is spoken: a client that insists on its protocol closes then (RFC
/// 6455, section 4.1).
pub(super) fn choose(headers: &HeaderMap) -> (Format, Option<&'static str>) {
    let asks_for_msgpack = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == msgpack::PROTOCOL);
    if asks_for_msgpack { (Format::Msgpack, Some(msgpack::PROTOCOL)) } else { (Format::Json, None) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn choose(offers: &[&'static str]) -> (Format, Option<&'static str>) {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer));
        }
        super::choose(&headers)
    }

    #[test]
    fn msgpack_is_spoken_with_whom_asks_for_it() {
        for offers in [
            &["lizards.v1.msgpack"][..],
            &["foo, lizards.v1.msgpack"],
            &["foo", "lizards.v1.msgpack,bar"],
        ] {
            let expected = (Format::Msgpack, Some("lizards.v1.msgpack"));
            assert_eq!(choose(offers), expected, "{offers:?}");
        }
        for offers in [&[][..], &["mqtt"], &["lizards.v2.msgpack"], &["LIZARDS.V1.MSGPACK"]] {
            assert_eq!(choose(offers), (Format::Json, None), "{offers:?}");
        }
    }
}
