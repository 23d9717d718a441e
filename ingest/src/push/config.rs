//! Who may bring prices, and in which format.

use axum::http::HeaderValue;
use schemars::JsonSchema;
use schemas::{Format, Source as Name};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::{access::MIN_KEY, config::ConfigError};

/// A source whose prices others bring by `POST /ticks/push:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushConfig {
    /// The name of the source after `push:`.
    pub name: String,
    /// What whoever posts shows as `Authorization: Bearer <key>`; at least 16 bytes.
    pub key: String,
    /// The format of what is posted, read as `[[records]]` of the source `push:<name>` says.
    pub format: PushFormat,
}

/// The format of what is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PushFormat {
    /// CSV with a header line: `text/csv`.
    Csv,
    /// One JSON object a line: `application/x-ndjson`.
    Ndjson,
}

impl PushConfig {
    /// The whole name of the source.
    pub(crate) fn source(&self) -> Result<Name, ConfigError> {
        let name = format!("push:{}", self.name);
        Name::new(&name).map_err(|fault| ConfigError::new("push", fault))
    }

    /// Checks all of them. Faults of keys are told without the keys.
    pub(crate) fn check(sources: &[Self]) -> Result<(), ConfigError> {
        for (index, config) in sources.iter().enumerate() {
            let source = config.source()?;
            if config.key.len() < MIN_KEY {
                let fault = format!("the key of {source} is shorter than {MIN_KEY} bytes");
                return Err(ConfigError::new("push", fault));
            }
            if sources.iter().take(index).any(|before| before.name == config.name) {
                return Err(ConfigError::new("push", format!("{source} is there twice")));
            }
        }
        Ok(())
    }
}

impl PushFormat {
    /// The media type of a request, if it is one of the format.
    pub(super) fn accept(self, content_type: Option<&HeaderValue>) -> Result<String, Refusal> {
        let given = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let media_types = self.media_types();
        if media_types.contains(&essence.as_str()) {
            Ok(given.to_owned())
        } else {
            Err(Refusal::MediaType(media_types))
        }
    }

    /// What the format is called; the first is the usual name.
    fn media_types(self) -> &'static [&'static str] {
        match self {
            Self::Csv => &["text/csv"],
            Self::Ndjson => &[
                "application/x-ndjson",
                "application/ndjson",
                "application/jsonl",
                "application/json",
            ],
        }
    }
}

impl From<PushFormat> for Format {
    fn from(format: PushFormat) -> Self {
        match format {
            PushFormat::Csv => Self::Csv,
            PushFormat::Ndjson => Self::Ndjson,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, key: &str) -> PushConfig {
        PushConfig { name: name.into(), key: key.into(), format: PushFormat::Csv }
    }

    #[test]
    fn a_fault_is_told_without_the_key() {
        let key = "correct-horse-battery";
        let fault = |sources: &[PushConfig]| PushConfig::check(sources).unwrap_err().to_string();
        PushConfig::check(&[config("desk", key), config("other", key)]).unwrap();
        assert_eq!(
            fault(&[config("desk", "hush")]),
            "ingest.push: the key of push:desk is shorter than 16 bytes"
        );
        assert_eq!(
            fault(&[config("desk", key), config("desk", key)]),
            "ingest.push: push:desk is there twice"
        );
        assert!(fault(&[config("De sk", key)]).contains("is not a source name"));
    }

    #[test]
    fn only_the_media_types_of_the_format_are_taken() {
        let accept = |format: PushFormat, text: &'static str| {
            format.accept(Some(&HeaderValue::from_static(text)))
        };
        assert_eq!(
            accept(PushFormat::Csv, "Text/CSV; header=present").unwrap(),
            "Text/CSV; header=present"
        );
        accept(PushFormat::Ndjson, "application/x-ndjson").unwrap();
        assert!(accept(PushFormat::Csv, "application/json").is_err());
        assert!(accept(PushFormat::Ndjson, "application/x-www-form-urlencoded").is_err());
        assert!(PushFormat::Csv.accept(None).is_err());
    }
}
