//! The connection of a feed: how it comes to be, and what its ends mean.

use std::{io, time::Duration};

use futures_util::SinkExt;
use jiff::Timestamp;
use reqwest::{Url, header::RETRY_AFTER};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        error::{CapacityError, ProtocolError},
        http::{HeaderValue, StatusCode, header::USER_AGENT},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::Feed;
use crate::{
    outlet::MAX_PAYLOAD_BYTES,
    source::{ErrorKind, FetchError},
};

/// After a refusal that more haste does not change: a wrong key, too many connections.
pub(in crate::sources) const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// A buffer that holds some twenty messages: tungstenite clears all that is free in it for each read.
const READ_BUFFER: usize = 8 * 1024;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection to the provider, each step of it within its time.
pub(super) async fn connect(feed: &Feed) -> Result<Socket, FetchError> {
    let step = feed.patience.step;
    let late = |what: &str| FetchError::new(ErrorKind::Timeout, format!("no {what} in {step:?}"));
    let (host, port) = address(&feed.url)?;
    let stream = timeout(step, TcpStream::connect((host, port)))
        .await
        .map_err(|_| late("connection"))?
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| FetchError::new(ErrorKind::Connection, error.to_string()))?;
    let mut request = feed.url.as_str().into_client_request().map_err(fault)?;
    let agent = HeaderValue::from_static(concat!("lizards/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, agent);
    for (name, value) in &feed.headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(MAX_PAYLOAD_BYTES))
        .max_frame_size(Some(MAX_PAYLOAD_BYTES));
    let handshake = client_async_tls_with_config(request, stream, Some(limits), None);
    let (socket, _) =
        timeout(step, handshake).await.map_err(|_| late("WebSocket handshake"))?.map_err(fault)?;
    Ok(socket)
}

fn address(url: &Url) -> Result<(&str, u16), FetchError> {
    let host = url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
    host.zip(url.port_or_known_default())
        .ok_or_else(|| FetchError::new(ErrorKind::Connection, "the address names no host"))
}

/// Sends a message, within its time.
pub(super) async fn send(
    socket: &mut Socket,
    message: Message,
    within: Duration,
) -> Result<(), FetchError> {
    timeout(within, socket.send(message))
        .await
        .map_err(|_| {
            let fault = format!("the provider took no message in {within:?}");
            FetchError::new(ErrorKind::Timeout, fault)
        })?
        .map_err(fault)
}

/// What a failure of the connection means.
pub(super) fn fault(error: tungstenite::Error) -> FetchError {
    use tungstenite::Error;
    let kind = match &error {
        Error::Http(response) => return refused(response),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ErrorKind::TooLarge,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ErrorKind::Connection,
        Error::Protocol(_) | Error::Utf8(_) => ErrorKind::Malformed,
        // As rustls tells what is wrong with the other side.
        Error::Io(fault) if fault.kind() == io::ErrorKind::InvalidData => ErrorKind::Tls,
        Error::Tls(_) => ErrorKind::Tls,
        _ => ErrorKind::Connection,
    };
    FetchError::new(kind, error.to_string())
}

/// The provider answers the handshake with something else than a WebSocket.
fn refused<B>(response: &tungstenite::http::Response<B>) -> FetchError {
    let status = response.status();
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| {
        crate::sources::fetch::retry_after(value.to_str().ok()?, Timestamp::now())
    });
    let (kind, otherwise) = match status {
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::RateLimited, Some(AFTER_REFUSAL)),
        StatusCode::UNAUTHORIZED => (ErrorKind::Unauthorized, Some(AFTER_REFUSAL)),
        StatusCode::FORBIDDEN => (ErrorKind::NotAllowed, Some(AFTER_REFUSAL)),
        _ if status.is_client_error() => (ErrorKind::Provider, Some(AFTER_REFUSAL)),
        _ => (ErrorKind::Provider, None),
    };
    let fault = format!("the provider answers {status}");
    FetchError { retry_after: asked.or(otherwise), ..FetchError::new(kind, fault) }
}

/// What the end of a connection means (RFC 6455, 7.4.1, and the registry of close codes at IANA).
pub(super) fn closed(frame: Option<CloseFrame>) -> FetchError {
    let Some(CloseFrame { code, reason }) = frame else {
        return FetchError::new(ErrorKind::Connection, "the provider closed the connection");
    };
    let (kind, retry_after) = match code {
        CloseCode::Normal
        | CloseCode::Away
        | CloseCode::Status
        | CloseCode::Abnormal
        | CloseCode::Restart => (ErrorKind::Connection, None),
        // 1008 is what providers say to whoever asks too much or may not ask.
        CloseCode::Again | CloseCode::Policy => (ErrorKind::RateLimited, Some(AFTER_REFUSAL)),
        CloseCode::Size => (ErrorKind::TooLarge, None),
        CloseCode::Protocol | CloseCode::Unsupported | CloseCode::Invalid => {
            (ErrorKind::Malformed, None)
        }
        _ => (ErrorKind::Provider, None),
    };
    let code = u16::from(code);
    let words = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let fault = format!("the provider closed the connection with code {code}{words}");
    FetchError { retry_after, ..FetchError::new(kind, fault) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_code_says_what_kind_of_end_it_is() {
        for (code, kind, waits) in [
            (1000, ErrorKind::Connection, false),
            (1001, ErrorKind::Connection, false),
            (1002, ErrorKind::Malformed, false),
            (1007, ErrorKind::Malformed, false),
            (1008, ErrorKind::RateLimited, true),
            (1009, ErrorKind::TooLarge, false),
            (1011, ErrorKind::Provider, false),
            (1012, ErrorKind::Connection, false),
            (1013, ErrorKind::RateLimited, true),
            (4001, ErrorKind::Provider, false),
        ] {
            let frame = CloseFrame { code: code.into(), reason: "bye".into() };
            let error = closed(Some(frame));
            assert_eq!((error.kind, error.retry_after.is_some()), (kind, waits), "{code}");
            let said = format!("the provider closed the connection with code {code}: bye");
            assert_eq!(error.message, said);
        }
        assert_eq!(closed(None).kind, ErrorKind::Connection);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (url, expected) in [
            ("wss://example.com/x", ("example.com", 443)),
            ("ws://example.com", ("example.com", 80)),
            ("ws://[::1]:9", ("::1", 9)),
        ] {
            assert_eq!(address(&Url::parse(url).unwrap()).unwrap(), expected);
        }
    }
}
