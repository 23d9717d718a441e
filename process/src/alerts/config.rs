//! What may be set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How alert rules are judged and their alerts delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Judge the rules that are set by `POST /alerts`, and post their alerts to their webhooks.
    pub enabled: bool,
    /// How many rules there may be; more are refused.
    pub max_rules: usize,
    /// Let webhooks go to addresses that are not of the public internet: to this machine and those
    /// behind the same firewall. Whoever may set a rule can then reach what is there.
    pub allow_private_webhooks: bool,
    /// How long a receiver may take to answer, in milliseconds.
    pub webhook_timeout_ms: u64,
    /// How often an alert is posted at most before it is given up.
    pub webhook_attempts: u32,
    /// The longest wait before the second attempt, in milliseconds; it doubles with each, and each
    /// wait is a random part of it. A receiver may ask for more, by `Retry-After`, up to an hour.
    pub webhook_first_retry_ms: u64,
    /// What the longest wait grows to, in milliseconds.
    pub webhook_longest_retry_ms: u64,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_rules: 1_000,
            allow_private_webhooks: false,
            webhook_timeout_ms: 10_000,
            webhook_attempts: 12,
            webhook_first_retry_ms: 1_000,
            webhook_longest_retry_ms: 600_000,
        }
    }
}

impl AlertsConfig {
    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |key, fault: &str| Err(Error::Config { key, fault: fault.to_owned() });
        if !(1..=10_000).contains(&self.max_rules) {
            return wrong("process.alerts.max_rules", "must be from 1 to 10000");
        }
        if !(100..=60_000).contains(&self.webhook_timeout_ms) {
            return wrong(
                "process.alerts.webhook_timeout_ms",
                "must be from 100 to 60000, a minute",
            );
        }
        if !(1..=100).contains(&self.webhook_attempts) {
            return wrong("process.alerts.webhook_attempts", "must be from 1 to 100");
        }
        if !(1..=self.webhook_longest_retry_ms).contains(&self.webhook_first_retry_ms)
            || self.webhook_longest_retry_ms > 86_400_000
        {
            return wrong(
                "process.alerts.webhook_longest_retry_ms",
                "must be at least process.alerts.webhook_first_retry_ms, which is at least 1, and \
                 at most 86400000, a day",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_fault_names_its_key() {
        let config = AlertsConfig::default();
        assert!(config.validate().is_ok());
        for (config, key) in [
            (AlertsConfig { max_rules: 0, ..config.clone() }, "max_rules"),
            (AlertsConfig { webhook_timeout_ms: 99, ..config.clone() }, "webhook_timeout_ms"),
            (AlertsConfig { webhook_attempts: 0, ..config.clone() }, "webhook_attempts"),
            (
                AlertsConfig { webhook_first_retry_ms: 0, ..config.clone() },
                "webhook_longest_retry_ms",
            ),
            (AlertsConfig { webhook_longest_retry_ms: 9, ..config }, "webhook_longest_retry_ms"),
        ] {
            let text = config.validate().unwrap_err().to_string();
            assert!(text.starts_with(&format!("process.alerts.{key}: ")), "{text}");
        }
    }
}
