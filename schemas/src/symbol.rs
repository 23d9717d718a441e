//! Symbols, and how one becomes exactly one subject token.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

/// The longest symbol, in bytes of UTF-8. Escaped it still fits a NATS subject with room to spare.
pub const MAX_SYMBOL_BYTES: usize = 64;

/// The token that stands for "many symbols": a raw payload that holds more than one.
pub const MANY_SYMBOLS: &str = "_";

/// The name of a tradable thing as its source writes it: `AAPL`, `BRK.B`, `EUR/USD`, `^GSPC`.
///
/// Cheap to clone. 1 to [`MAX_SYMBOL_BYTES`] bytes, no control characters, no white space at
/// either end.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Symbol(Arc<str>);

/// Why a text is not a symbol, or not the token of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    /// Nothing, or nothing but an empty token.
    #[error("a symbol is empty")]
    Empty,
    /// Longer than [`MAX_SYMBOL_BYTES`].
    #[error("a symbol is {0} bytes long; at most {MAX_SYMBOL_BYTES} are allowed")]
    TooLong(usize),
    /// A control character inside.
    #[error("a symbol holds the control character {0:?}")]
    Control(char),
    /// White space at the start or the end.
    #[error("the symbol {0:?} begins or ends with white space")]
    Untrimmed(String),
    /// A subject token that [`Symbol::token`] never writes.
    #[error("{0:?} is not the subject token of a symbol")]
    Token(String),
}

impl Symbol {
    /// Checks a text and takes it as a symbol, letter for letter.
    pub fn new(text: &str) -> Result<Self, SymbolError> {
        if text.is_empty() {
            return Err(SymbolError::Empty);
        }
        if text.len() > MAX_SYMBOL_BYTES {
            return Err(SymbolError::TooLong(text.len()));
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(SymbolError::Control(control));
        }
        if text.trim() != text {
            return Err(SymbolError::Untrimmed(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The symbol as its source writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The symbol as one NATS subject token, which is also its key in a KV bucket.
    ///
    /// Letters, digits, `-`, `_` and `/` stay; every other byte becomes `=` and two upper-case
    /// hexadecimal digits, as in quoted-printable (RFC 2045, 6.7): `BRK.B` is `BRK=2EB`. The
    /// symbol `_` is escaped too, because [`MANY_SYMBOLS`] is that token. The escape is a
    /// bijection: [`Symbol::from_token`] takes back what this writes, and nothing else.
    pub fn token(&self) -> Cow<'_, str> {
        let text = self.as_str();
        if text != MANY_SYMBOLS && text.bytes().all(is_plain) {
            return Cow::Borrowed(text);
        }
        let mut token = String::with_capacity(text.len() + 8);
        for byte in text.bytes() {
            if is_plain(byte) && text != MANY_SYMBOLS {
                token.push(char::from(byte));
            } else {
                token.push('=');
                token.push(hex_digit(byte >> 4));
                token.push(hex_digit(byte & 0xF));
            }
        }
        Cow::Owned(token)
    }

    /// Reads a token that [`Symbol::token`] wrote.
    pub fn from_token(token: &str) -> Result<Self, SymbolError> {
        let refuse = || SymbolError::Token(token.to_owned());
        let mut bytes = Vec::with_capacity(token.len());
        let mut rest = token.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'=' => {
                    let high = rest.next().and_then(hex_value).ok_or_else(refuse)?;
                    let low = rest.next().and_then(hex_value).ok_or_else(refuse)?;
                    bytes.push(high << 4 | low);
                }
                plain if is_plain(plain) => bytes.push(plain),
                _ => return Err(refuse()),
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| refuse())?;
        let symbol = Self::new(&text)?;
        // A byte that needs no escape, escaped all the same, would be a second name for one symbol.
        if symbol.token() == token { Ok(symbol) } else { Err(refuse()) }
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/')
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble & 0xF)])
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Symbol {
    fn schema_name() -> Cow<'static, str> {
        "Symbol".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A symbol as its source writes it, without control characters or outer white space.",
            "minLength": 1,
            "maxLength": MAX_SYMBOL_BYTES,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_symbols_of_the_contract_round_trip() {
        for (text, token) in [
            ("AAPL", "AAPL"),
            ("BRK.B", "BRK=2EB"),
            ("BTC-USD", "BTC-USD"),
            ("^GSPC", "=5EGSPC"),
            ("EUR/USD", "EUR/USD"),
            ("0700.HK", "0700=2EHK"),
            ("A B", "A=20B"),
            ("*", "=2A"),
            (">", "=3E"),
            ("_", "=5F"),
            ("A_B", "A_B"),
            ("A=B", "A=3DB"),
            ("Ö", "=C3=96"),
        ] {
            let symbol = Symbol::new(text).unwrap();
            assert_eq!(symbol.token(), token);
            assert_eq!(Symbol::from_token(token).unwrap(), symbol);
        }
    }

    #[test]
    fn what_is_no_symbol_says_why() {
        assert_eq!(Symbol::new(""), Err(SymbolError::Empty));
        assert_eq!(Symbol::new(&"X".repeat(65)), Err(SymbolError::TooLong(65)));
        assert_eq!(Symbol::new("A\nB"), Err(SymbolError::Control('\n')));
        assert_eq!(Symbol::new(" A"), Err(SymbolError::Untrimmed(" A".into())));
    }

    #[test]
    fn a_token_that_is_not_canonical_is_refused() {
        for token in ["", "_", "A.B", "*", ">", "A B", "=41", "=2e", "=2", "=", "=FF", "=0A"] {
            assert!(Symbol::from_token(token).is_err(), "{token:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn any_symbol_is_one_token_and_comes_back(text in "\\PC{1,16}") {
            prop_assume!(Symbol::new(&text).is_ok());
            let symbol = Symbol::new(&text).unwrap();
            let token = symbol.token().into_owned();
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|b| is_plain(b) || b == b'='), "{}", token);
            prop_assert_ne!(token.as_str(), MANY_SYMBOLS);
            prop_assert_eq!(Symbol::from_token(&token).unwrap(), symbol);
        }

        #[test]
        fn two_symbols_never_share_a_token(a in "\\PC{1,8}", b in "\\PC{1,8}") {
            if let (Ok(a), Ok(b)) = (Symbol::new(&a), Symbol::new(&b)) {
                prop_assert_eq!(a == b, a.token() == b.token());
            }
        }

        #[test]
        fn any_token_either_is_refused_or_is_the_only_name(token in "[A-F0-9=_/.*> -]{0,12}") {
            if let Ok(symbol) = Symbol::from_token(&token) {
                prop_assert_eq!(symbol.token(), token.as_str());
            }
        }
    }
}
