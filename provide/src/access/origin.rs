//! Which web pages may open a connection.
//!
//! A browser says in `Origin` whose page it shows. Nothing here rests on what a browser sends by
//! itself, such as cookies, so any page may connect unless the operator names those that may.

use axum::http::{HeaderMap, header};

/// Pages that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    /// These, and pages of the address that the client reached us at; none is all.
    pub(super) fn new(allowed: &[String]) -> Self {
        Self(allowed.iter().map(|origin| origin.to_ascii_lowercase()).collect())
    }

    /// May whoever sent these headers connect? A client that is no browser sends no `Origin`, or
    /// whatever it likes: this protects people at browsers, not us.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        if self.0.is_empty() {
            return true;
        }
        let Ok(origin) = origin.to_str().map(str::to_ascii_lowercase) else { return false };
        self.0.contains(&origin) || is_same(&origin, headers)
    }
}

/// Is it a page of the host that was asked? Behind the gateway that host is in another header,
/// which no page can set.
fn is_same(origin: &str, headers: &HeaderMap) -> bool {
    let first = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim)
    };
    let host = first("x-forwarded-host").or_else(|| first(header::HOST.as_str()));
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    match (authority, host) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allow(allowed: &[&str], headers: &[(&'static str, &'static str)]) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        Origins::new(&allowed).allow(&headers)
    }

    #[test]
    fn any_page_may_where_none_is_named() {
        assert!(allow(&[], &[("host", "prices.example"), ("origin", "https://evil.example")]));
    }

    #[test]
    fn named_pages_our_own_and_programs_may() {
        let named = &["https://app.example", "http://localhost:3000"];
        let host = ("host", "prices.example:8080");
        for origin in ["https://APP.example", "http://localhost:3000", "http://prices.example:8080"]
        {
            assert!(allow(named, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(allow(named, &[host]));
        let forwarded = ("x-forwarded-host", "front.example");
        assert!(allow(named, &[host, forwarded, ("origin", "https://front.example")]));
        for origin in [
            "http://app.example",
            "https://app.example.evil.example",
            "http://prices.example",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!allow(named, &[host, ("origin", origin)]), "{origin}");
        }
    }
}
