//! What may be set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How alert rules are judged and their alerts delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Judge the rules that are set by `POST /alerts`.
    pub enabled: bool,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}
