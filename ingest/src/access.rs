//! Who may change something over HTTP.

use axum::http::{HeaderMap, header};
use ring::hmac;

/// The shortest key, in bytes.
pub(crate) const MIN_KEY: usize = 16;

/// A secret that callers show as `Authorization: Bearer <key>`. How long it takes to compare says
/// nothing about it, because only digests are compared.
pub(crate) struct SecretKey {
    digests: hmac::Key,
    digest: hmac::Tag,
}

impl SecretKey {
    /// The key that callers must show.
    pub(crate) fn new(key: &str) -> Self {
        let digests = hmac::Key::new(hmac::HMAC_SHA256, b"lizards keys");
        Self { digest: hmac::sign(&digests, key.as_bytes()), digests }
    }

    /// Whether whoever sent these headers has shown it.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(|key| {
            hmac::verify(&self.digests, key.as_bytes(), self.digest.as_ref()).is_ok()
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_whole_key_opens() {
        let key = SecretKey::new("correct-horse-battery");
        let shown = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            key.is_shown(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        };
        assert!(shown("Bearer correct-horse-battery") && shown("bearer  correct-horse-battery"));
        for wrong in
            ["Bearer correct-horse", "Basic correct-horse-battery", "correct-horse-battery"]
        {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!key.is_shown(&HeaderMap::new()));
    }
}
