//! What can be changed of a source while it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Symbol;

/// The value of a key `sources.<name>` in the KV bucket `config`: what holds for a source instead of
/// what is configured. What it does not say holds as configured, and addresses, keys and quotas
/// always do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSetting {
    /// Whether it is fetched, whether it is among `ingest.sources` or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The symbols to fetch, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Vec<Symbol>>,
}
