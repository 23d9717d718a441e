//! `POST /session`: where the caller can open its WebSocket.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, header, uri::Authority},
    routing::post,
};
use schemas::http::Session;
use service::Problem;

/// `POST /session`. `public_url` is the address given out; empty is the caller's own.
pub(crate) fn router(public_url: &str) -> Router {
    Router::new().route("/session", post(session)).with_state(public_url.into())
}

async fn session(
    State(public_url): State<Arc<str>>,
    headers: HeaderMap,
) -> Result<Json<Session>, Problem> {
    let websocket_url =
        if public_url.is_empty() { url_of(&headers)? } else { public_url.to_string() };
    Ok(Json(Session { websocket_url }))
}

/// `/ws` at the host that the caller reached: a proxy in between tells which that was.
fn url_of(headers: &HeaderMap) -> Result<String, Problem> {
    // With several proxies in a row the first value is the outermost one's.
    let first = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
    };
    let host = first("x-forwarded-host")
        .or_else(|| first(header::HOST.as_str()))
        .ok_or_else(|| Problem::bad_request("the header Host is missing"))?;
    let authority: Authority = host
        .parse()
        .map_err(|fault| Problem::bad_request(format!("the host {host:?}: {fault}")))?;
    let is_secure = first("x-forwarded-proto").is_some_and(|proto| {
        proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss")
    });
    let scheme = if is_secure { "wss" } else { "ws" };
    let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
    // Without the user information that an authority may hold.
    Ok(format!("{scheme}://{}{port}/ws", authority.host()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn url(headers: &[(&'static str, &'static str)]) -> Result<String, Problem> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        url_of(&headers)
    }

    #[test]
    fn it_is_the_address_that_the_caller_used() {
        assert_eq!(url(&[("host", "127.0.0.1:4711")]).unwrap(), "ws://127.0.0.1:4711/ws");
        assert_eq!(url(&[("host", "[::1]:80")]).unwrap(), "ws://[::1]:80/ws");
        let forwarded = [
            ("host", "127.0.0.1:4711"),
            ("x-forwarded-host", "prices.example.com, inner"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(url(&forwarded).unwrap(), "wss://prices.example.com/ws");
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        assert!(url(&[]).is_err());
        assert!(url(&[("host", "a b")]).is_err());
    }

    #[tokio::test]
    async fn a_configured_address_goes_before_all() {
        let headers = HeaderMap::new();
        let answer = session(State("wss://x/ws".into()), headers).await.unwrap();
        assert_eq!(answer.0.websocket_url, "wss://x/ws");
    }
}
