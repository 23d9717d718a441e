//! What is saved of the rules.

use schemas::alert::AlertStatus;
use serde::{Deserialize, Serialize};

use super::memory::Memory;

/// The key of the place in the streams.
pub(super) const POSITION: &str = "position";

/// The key of a rule is this and its id.
const RULE_PREFIX: &str = "rule.";

/// How far all rules are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Up to this sequence of `TICKS` nothing is to be read again.
    pub(super) ticks: u64,
    /// From this sequence of `ALERTS` on there may be alerts about later ticks.
    pub(super) alerts: u64,
}

/// How a rule stands. The status is read by others, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The newest sequence of `TICKS` that it has seen, or the one it was taken on at.
    pub(super) seq: u64,
    #[serde(flatten)]
    pub(super) status: AlertStatus,
    pub(super) memory: Memory,
}

/// The key of a rule.
pub(super) fn key(id: &str) -> String {
    format!("{RULE_PREFIX}{id}")
}

/// The rule of a key.
pub(super) fn rule(key: &str) -> Option<&str> {
    key.strip_prefix(RULE_PREFIX)
}
