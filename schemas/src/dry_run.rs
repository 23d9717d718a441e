//! What a payload would become.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Decimal, Source, Symbol, Tick, tick::Utc};

/// The answer to a dry run: what would be published of a payload, and what would be rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DryRun {
    /// What would become of it in all.
    pub status: DryRunStatus,
    /// The source that it is read as being of.
    pub source: Source,
    /// The decoder that reads it, as the header `Lizards-Format` names it.
    pub format: String,
    /// Nobody said which format it is: it is taken for the one of which most would be ticks.
    pub detected: bool,
    /// When it is taken to have been received, UTC.
    #[schemars(with = "Utc")]
    pub received_at: Timestamp,
    /// How many of its events would be ticks.
    pub tick_count: usize,
    /// How many would be rejected.
    pub rejection_count: usize,
    /// How many of both are left out below, because the answer would be too long with them.
    pub left_out: usize,
    /// The rules that could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<NotAsked>,
    /// The ticks in their order, as they would be in `TICKS`; `raw_seq` is 0, for nothing is stored.
    pub ticks: Vec<Tick>,
    /// The rejections in their order.
    pub rejections: Vec<DryRejection>,
}

/// What would become of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DryRunStatus {
    /// Each of its events would be a tick.
    Accepted,
    /// Some would be ticks, some rejected.
    PartlyRejected,
    /// None would be a tick.
    Rejected,
}

impl DryRunStatus {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::PartlyRejected => "partly_rejected",
            Self::Rejected => "rejected",
        }
    }
}

/// An event that would be rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DryRejection {
    /// The number of the event in the payload, from 0 on.
    pub event: usize,
    /// The kind of reason, as in the subjects of `TICKS_REJECTED`.
    pub reason: String,
    /// Where it would be rejected: `decode` or `validate`.
    pub stage: String,
    /// What exactly: the field, its value, its fault, and its place.
    pub error: String,
    /// The symbol of the event, where it could be read and only a rule is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// The price of the event, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Decimal>,
}

/// Rules that judge by the ticks before an event, and did not know them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotAsked {
    /// The rules, as they are named in `process.rules`, and `duplicate`.
    pub rules: Vec<String>,
    /// The symbols of the payload that this is so for; of very many the first.
    pub symbols: BTreeSet<Symbol>,
    /// Why.
    pub why: String,
}
