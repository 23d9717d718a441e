//! The opening handshake of RFC 6455, section 4.2.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use service::Problem;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::protocol;
use crate::{access::Permit, hub::Format, wire::Compression};

/// A request that asks for a WebSocket and may have one.
pub(super) struct Handshake {
    accept: String,
    format: Format,
    protocol: Option<&'static str>,
    compression: Option<Compression>,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Examines a request; the problem says what is missing.
    pub(super) fn of(request: &mut Request) -> Result<Self, Problem> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket begins with GET"));
        }
        if !has_token(headers, header::CONNECTION, "upgrade")
            || !has_token(headers, header::UPGRADE, "websocket")
        {
            let text = "the headers \"Connection: upgrade\" and \"Upgrade: websocket\" are missing";
            return Err(refused(StatusCode::BAD_REQUEST, text));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let text = "Sec-WebSocket-Version has to be 13";
            return Err(refused(StatusCode::BAD_REQUEST, text));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let accept = key.map(|key| derive_accept_key(key.as_bytes())).ok_or_else(|| {
            refused(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is missing")
        })?;
        let (format, protocol) = protocol::choose(headers);
        let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
        let compression = Compression::agree(offers.iter().filter_map(|it| it.to_str().ok()));
        let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
            refused(StatusCode::UPGRADE_REQUIRED, "this connection cannot be upgraded")
        })?;
        Ok(Self { accept, format, protocol, compression, upgrade })
    }

    /// The answer that switches protocols, and what was agreed.
    pub(super) fn accept(self, permit: Permit) -> (Response, Switching) {
        let headers = [
            (header::CONNECTION, "upgrade".to_owned()),
            (header::UPGRADE, "websocket".to_owned()),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let protocol = self.protocol.map(|name| [(header::SEC_WEBSOCKET_PROTOCOL, name)]);
        let extensions =
            self.compression.map(|agreed| [(header::SEC_WEBSOCKET_EXTENSIONS, agreed.answer())]);
        let response =
            (StatusCode::SWITCHING_PROTOCOLS, headers, protocol, extensions, ()).into_response();
        (
            response,
            Switching {
                upgrade: self.upgrade,
                terms: Terms { format: self.format, compression: self.compression, permit },
            },
        )
    }
}

/// A connection that changes its protocol when the answer is written.
pub(super) struct Switching {
    upgrade: OnUpgrade,
    terms: Terms,
}

/// What was agreed with a client when it connected.
pub(super) struct Terms {
    pub(super) format: Format,
    pub(super) compression: Option<Compression>,
    pub(super) permit: Permit,
}

impl Switching {
    /// The socket, and what was read from it already; `None` where the client has gone.
    pub(super) async fn socket(self) -> Option<(TcpStream, Bytes, Terms)> {
        let upgraded: Upgraded = self.upgrade.await.ok()?;
        // Our server puts nothing between hyper and the socket.
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
        Some((parts.io.into_inner(), parts.read_buf, self.terms))
    }
}

fn refused(status: StatusCode, text: &str) -> Problem {
    Problem::new(status, text)
}

/// Is a token in a header that lists several, whatever its case?
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
