//! Session tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256 (`HS256`, RFC 7518).
//!
//! So whoever holds the key can issue them too, with any library: a login service, for example.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// The longest token that is looked at, in bytes.
const MAX_BYTES: usize = 8_192;

/// Signs tokens, and knows those it has signed.
#[derive(Clone)]
pub(super) struct Signer(hmac::Key);

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// Who asked for it.
    #[serde(default)]
    pub(super) sub: String,
    /// Symbols and wildcards that its bearer may subscribe to.
    pub(super) symbols: Vec<String>,
    /// It is not taken from this time on, in seconds since 1970.
    pub(super) exp: i64,
    /// It is not taken before this time, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("it is not a JSON Web Token signed with HS256")]
    Malformed,
    #[error("its signature is wrong")]
    Signature,
    #[error("it does not say what a session token says: symbols and exp")]
    Claims,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    TooEarly,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
}

impl Signer {
    pub(super) fn new(key: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))
    }

    pub(super) fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let header = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.digest(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What a token says, if it is ours and this is its time.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Invalid> {
        let decode = |text| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Invalid::Malformed);
        if token.len() > MAX_BYTES {
            return Err(Invalid::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Invalid::Malformed)?;
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Invalid::Malformed)?;
        if header.alg != "HS256" {
            return Err(Invalid::Malformed);
        }
        // In constant time.
        hmac::verify(&self.0, signed.as_bytes(), &decode(signature)?)
            .map_err(|_| Invalid::Signature)?;
        let claims: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| Invalid::Claims)?;
        let now = now.as_second();
        if claims.exp <= now {
            return Err(Invalid::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now) {
            return Err(Invalid::TooEarly);
        }
        Ok(claims)
    }

    /// A fingerprint that only the holder of the key can make: how long it takes to find one tells
    /// nothing of what it is of.
    pub(super) fn digest(&self, bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, bytes).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::new("0123456789abcdef0123456789abcdef")
    }

    fn claims() -> Claims {
        Claims { sub: "desk".into(), symbols: vec!["BTC-*".into()], exp: 1_000, nbf: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_token_is_taken_until_it_expires_and_only_with_its_key() {
        let token = signer().sign(&claims());
        assert_eq!(signer().verify(&token, at(999)), Ok(claims()));
        assert_eq!(signer().verify(&token, at(1_000)), Err(Invalid::Expired));
        let other = Signer::new("fedcba9876543210fedcba9876543210");
        assert_eq!(other.verify(&token, at(0)), Err(Invalid::Signature));
        let later = Claims { nbf: Some(500), ..claims() };
        let later = signer().sign(&later);
        assert_eq!(signer().verify(&later, at(499)), Err(Invalid::TooEarly));
        assert!(signer().verify(&later, at(500)).is_ok());
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let token = signer().sign(&claims());
        for at_byte in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at_byte] = if changed[at_byte] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(signer().verify(&changed, at(0)).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_token_of_any_library_is_taken_and_no_other_algorithm() {
        // Made with Python's hmac and base64.
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzeW1ib2xzIjpbIkFBUEwiXSwiZXhwIjo0MTAyNDQ0ODAwfQ.BD2_ZoCRxPMiJYLIyfeBrd2FNFP3Q-iIMOTN8Hi3d7g";
        let claims = signer().verify(token, at(0)).unwrap();
        assert_eq!((claims.symbols, claims.sub), (vec!["AAPL".to_owned()], String::new()));
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, "{}", "x"] {
            let signed = format!("{}.{}", encode(header), encode(r#"{"symbols":[],"exp":9}"#));
            let signature = BASE64_URL_SAFE_NO_PAD.encode(signer().digest(signed.as_bytes()));
            let token = format!("{signed}.{signature}");
            assert_eq!(signer().verify(&token, at(0)), Err(Invalid::Malformed), "{header}");
        }
        for token in ["", ".", "..", "a.b.c", "é.é.é", &"a".repeat(9_000)] {
            assert_eq!(signer().verify(token, at(0)), Err(Invalid::Malformed), "{token:.9}");
        }
        let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(r#"{"exp":9}"#));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signer().digest(signed.as_bytes()));
        assert_eq!(signer().verify(&format!("{signed}.{signature}"), at(0)), Err(Invalid::Claims));
    }
}
