//! The names of sources.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a source: `sim`, `file`, `coinbase`, or with an account of its kind `html:<site>`,
/// `push:<name>`. It is one NATS subject token as it stands.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Source(Arc<str>);

/// A text that cannot name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a source name: 1 to 64 of a-z, 0-9, - and _, with at most one colon between them"
)]
pub struct SourceError(String);

impl Source {
    /// Checks a text and takes it as a source name.
    pub fn new(name: &str) -> Result<Self, SourceError> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        let (kind, account) = name.split_once(':').unwrap_or((name, "any"));
        if name.len() <= 64 && is_word(kind) && is_word(account) {
            Ok(Self(name.into()))
        } else {
            Err(SourceError(name.chars().take(80).collect()))
        }
    }

    /// The whole name, which is also its subject token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon: `html` of `html:example`, `sim` of `sim`.
    pub fn kind(&self) -> &str {
        self.0.split_once(':').map_or(self.as_str(), |(kind, _)| kind)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(name: &str) -> Result<Self, SourceError> {
        Self::new(name)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "The name of a source, such as `sim`, `coinbase` or `html:<site>`.",
            "pattern": "^[a-z0-9_-]+(:[a-z0-9_-]+)?$",
            "maxLength": 64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_contract_are_taken() {
        for name in ["sim", "file", "alphavantage", "html:my-site", "push:desk_1"] {
            assert_eq!(Source::new(name).unwrap().as_str(), name);
        }
        assert_eq!(Source::new("html:my-site").unwrap().kind(), "html");
        assert_eq!(Source::new("sim").unwrap().kind(), "sim");
    }

    #[test]
    fn what_would_break_a_subject_is_refused() {
        for name in ["", ":", "a:", ":a", "a:b:c", "a.b", "A", "a b", "*", ">"] {
            assert!(Source::new(name).is_err(), "{name:?} was taken");
        }
    }
}
