//! `POST /session`: where the caller can open its WebSocket.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, header, uri::Authority},
    response::{IntoResponse, Response},
    routing::post,
};
use schemas::http::Session;
use service::Problem;

use crate::access::Access;

struct Sessions {
    access: Arc<Access>,
    /// The address given out; empty is the caller's own.
    public_url: String,
}

/// `POST /session`. `public_url` is the address given out; empty is the caller's own.
pub(crate) fn router(access: Arc<Access>, public_url: &str) -> Router {
    let sessions = Sessions { access, public_url: public_url.to_owned() };
    Router::new().route("/session", post(session)).with_state(Arc::new(sessions))
}

async fn session(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> Response {
    match sessions.begin(&headers) {
        // The token is for its caller, and for nobody's cache.
        Ok(session) => ([(header::CACHE_CONTROL, "no-store")], Json(session)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl Sessions {
    fn begin(&self, headers: &HeaderMap) -> Result<Session, Problem> {
        let issued = self.access.issue(headers)?;
        let mut websocket_url = match &*self.public_url {
            "" => url_of(headers)?,
            configured => configured.to_owned(),
        };
        let Some(issued) = issued else {
            return Ok(Session { websocket_url, token: None, expires_at: None });
        };
        websocket_url.push(if websocket_url.contains('?') { '&' } else { '?' });
        // Nothing of a token has to be escaped.
        websocket_url.push_str(&format!("token={}", issued.token));
        let (token, expires_at) = (Some(issued.token), Some(issued.expires_at));
        Ok(Session { websocket_url, token, expires_at })
    }
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
    use axum::http::{HeaderValue, StatusCode};

    use super::*;
    use crate::config::{ApiKey, WebSocketConfig};

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

    fn sessions(public_url: &str, config: &WebSocketConfig) -> Sessions {
        Sessions { access: Arc::new(Access::new(config)), public_url: public_url.to_owned() }
    }

    #[test]
    fn a_configured_address_goes_before_all() {
        let sessions = sessions("wss://x/ws", &WebSocketConfig::default());
        let session = sessions.begin(&HeaderMap::new()).unwrap();
        let expected =
            Session { websocket_url: "wss://x/ws".to_owned(), token: None, expires_at: None };
        assert_eq!(session, expected);
    }

    #[test]
    fn the_address_holds_the_token() {
        let api_key = ApiKey {
            name: "desk".to_owned(),
            key: "correct-horse-battery".to_owned(),
            symbols: vec!["*".to_owned()],
        };
        let config = WebSocketConfig {
            token_key: "0123456789abcdef0123456789abcdef".to_owned(),
            api_keys: vec![api_key],
            ..WebSocketConfig::default()
        };
        let credentials = HeaderValue::from_static("Bearer correct-horse-battery");
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, credentials)]);
        for (public_url, separator) in [("wss://x/ws", '?'), ("wss://x/ws?region=eu", '&')] {
            let session = sessions(public_url, &config).begin(&headers).unwrap();
            let token = session.token.unwrap();
            assert_eq!(session.websocket_url, format!("{public_url}{separator}token={token}"));
            assert!(session.expires_at.is_some());
        }
        let refused = sessions("wss://x/ws", &config).begin(&HeaderMap::new()).unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::UNAUTHORIZED);
    }
}
