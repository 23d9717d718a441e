//! Who may open a connection, and what it may subscribe to.
//!
//! With a `token_key` in the configuration a connection needs a session token. `POST /session`
//! issues one to whoever shows an API key of the configuration; it is short-lived, because it
//! stands in an address, and addresses are written into logs. It has to be valid when a connection
//! is opened, not as long as it lasts. Without a `token_key` everybody may have everything.

mod origin;
mod permit;
mod token;

use std::collections::HashMap;

use axum::http::{HeaderMap, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use service::Problem;

use crate::{
    config::WebSocketConfig,
    metrics::{self, Refused},
};
use origin::Origins;
use token::{Claims, Signer};

pub(crate) use permit::Permit;

/// What is checked before a connection is opened.
pub(crate) struct Access {
    origins: Origins,
    authority: Option<Authority>,
}

/// Who issues tokens, and to whom.
struct Authority {
    signer: Signer,
    lifetime: SignedDuration,
    /// By the fingerprint of the key.
    holders: HashMap<Vec<u8>, Holder>,
}

/// Whose API key it is.
struct Holder {
    name: String,
    symbols: Vec<String>,
}

/// A token, for its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) expires_at: Timestamp,
}

impl Access {
    /// As this configuration wants it.
    pub(crate) fn new(config: &WebSocketConfig) -> Self {
        let authority = (!config.token_key.is_empty()).then(|| {
            let signer = Signer::new(&config.token_key);
            let holders = config.api_keys.iter().map(|api_key| {
                let holder =
                    Holder { name: api_key.name.clone(), symbols: api_key.symbols.clone() };
                (signer.digest(api_key.key.as_bytes()), holder)
            });
            let holders = holders.collect();
            Authority { lifetime: config.token_lifetime(), holders, signer }
        });
        Self { origins: Origins::new(&config.allowed_origins), authority }
    }

    /// A token for whoever sent these headers; `None` where none is needed. 401 without an API key
    /// of the configuration.
    pub(crate) fn issue(&self, headers: &HeaderMap) -> Result<Option<Issued>, Problem> {
        let Some(authority) = &self.authority else { return Ok(None) };
        let holder = authority.holder(headers)?;
        let expires_at = Timestamp::now() + authority.lifetime;
        let token = authority.signer.sign(&Claims {
            sub: holder.name.clone(),
            symbols: holder.symbols.clone(),
            exp: expires_at.as_second(),
            nbf: None,
        });
        Ok(Some(Issued { token, expires_at }))
    }

    /// What whoever sent these headers may have, by its API key. 401 without one of the
    /// configuration, where one is needed.
    pub(crate) fn holder(&self, headers: &HeaderMap) -> Result<Permit, Problem> {
        let Some(authority) = &self.authority else { return Ok(Permit::All) };
        let Holder { name, symbols } = authority.holder(headers)?;
        Permit::parse(name, symbols).map_err(|text| {
            // The configuration was checked for that.
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{text:?} is no symbol"))
        })
    }

    /// What whoever sent these headers may subscribe to, with the token of the address if there is
    /// one, else that of the header `Authorization`. 401 without a valid token, 403 for a page that
    /// may not connect.
    pub(crate) fn permit(
        &self,
        headers: &HeaderMap,
        token: Option<&str>,
    ) -> Result<Permit, Problem> {
        if !self.origins.allow(headers) {
            let detail = "pages of this Origin may not connect (provide.websocket.allowed_origins)";
            metrics::refused(Refused::Origin);
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        let Some(authority) = &self.authority else { return Ok(Permit::All) };
        let token = token.or_else(|| bearer(headers)).ok_or_else(|| {
            unauthorized("a session token is needed: POST /session gives an address with one")
        })?;
        let refuse =
            |fault: String| unauthorized(format!("the session token is not valid: {fault}"));
        let claims = authority
            .signer
            .verify(token, Timestamp::now())
            .map_err(|invalid| refuse(invalid.to_string()))?;
        Permit::parse(&claims.sub, &claims.symbols)
            .map_err(|text| refuse(format!("{text:?} is no symbol")))
    }
}

impl Authority {
    /// Who shows an API key in these headers.
    fn holder(&self, headers: &HeaderMap) -> Result<&Holder, Problem> {
        let key = bearer(headers).ok_or_else(|| {
            unauthorized("an API key is needed: send it as Authorization: Bearer <key>")
        })?;
        self.holders
            .get(&self.signer.digest(key.as_bytes()))
            .ok_or_else(|| unauthorized("the API key is not known"))
    }
}

/// A token for everything, for whoever has the configuration itself; `None` where none is needed.
pub fn own_token(config: &WebSocketConfig) -> Option<String> {
    let claims = Claims {
        sub: "lizards".to_owned(),
        symbols: vec!["*".to_owned()],
        exp: (Timestamp::now() + config.token_lifetime()).as_second(),
        nbf: None,
    };
    (!config.token_key.is_empty()).then(|| Signer::new(&config.token_key).sign(&claims))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, credentials) =
        headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

fn unauthorized(detail: impl Into<String>) -> Problem {
    metrics::refused(Refused::Credentials);
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::{config::ApiKey, hub::Selector};

    fn access() -> Access {
        Access::new(&config())
    }

    fn config() -> WebSocketConfig {
        WebSocketConfig {
            token_key: "0123456789abcdef0123456789abcdef".to_owned(),
            api_keys: vec![ApiKey {
                name: "desk".to_owned(),
                key: "correct-horse-battery".to_owned(),
                symbols: vec!["BTC-*".to_owned()],
            }],
            allowed_origins: vec!["https://app.example".to_owned()],
            ..WebSocketConfig::default()
        }
    }

    fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn status<T>(result: Result<T, Problem>) -> StatusCode {
        use axum::response::IntoResponse;
        result.err().expect("a problem").into_response().status()
    }

    #[test]
    fn who_shows_an_api_key_gets_a_token_for_its_symbols() {
        let access = access();
        let key = with(header::AUTHORIZATION, "Bearer correct-horse-battery");
        let issued = access.issue(&key).unwrap().unwrap();
        let remaining = issued.expires_at - Timestamp::now();
        assert!(remaining.as_secs() <= 300, "{remaining}");
        let permit = access.permit(&HeaderMap::new(), Some(&issued.token)).unwrap();
        assert!(permit.allows(&Selector::parse("BTC-USD").unwrap()));
        assert!(!permit.allows(&Selector::parse("AAPL").unwrap()));
        let everything = own_token(&config()).unwrap();
        let all = access.permit(&HeaderMap::new(), Some(&everything)).unwrap();
        assert!(all.allows(&Selector::parse("*").unwrap()));
        let header = HeaderValue::try_from(format!("bearer {}", issued.token)).unwrap();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, header)]);
        assert_eq!(access.permit(&headers, None), Ok(permit));
    }

    #[test]
    fn nobody_else_does() {
        let access = access();
        for headers in [
            HeaderMap::new(),
            with(header::AUTHORIZATION, "Bearer correct-horse"),
            with(header::AUTHORIZATION, "Basic correct-horse-battery"),
            with(header::AUTHORIZATION, "correct-horse-battery"),
        ] {
            assert_eq!(status(access.issue(&headers)), StatusCode::UNAUTHORIZED);
            assert_eq!(status(access.permit(&headers, None)), StatusCode::UNAUTHORIZED);
        }
        let anywhere = with(header::ORIGIN, "https://evil.example");
        assert_eq!(status(access.permit(&anywhere, None)), StatusCode::FORBIDDEN);
    }

    #[test]
    fn without_a_key_everybody_may_have_everything() {
        let access = Access::new(&WebSocketConfig::default());
        assert_eq!(access.issue(&HeaderMap::new()), Ok(None));
        assert_eq!(access.permit(&HeaderMap::new(), None), Ok(Permit::All));
    }
}
