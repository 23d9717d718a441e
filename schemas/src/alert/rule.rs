//! What is kept of a rule, and what is sent when it fires.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Secret, WebhookUrl};
use crate::{Decimal, Source, Symbol, tick::Utc};

/// How many of its newest deliveries are kept of a rule.
pub const KEPT_DELIVERIES: usize = 20;

/// The value of a key in the KV bucket `alerts`: a rule. The key is its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRule {
    /// Its id, unique for ever.
    pub id: String,
    /// What has to hold.
    pub condition: Condition,
    /// Where its alerts are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<StoredWebhook>,
    /// The name of the API key it was set with, where they are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was set.
    pub created_at: Timestamp,
}

/// Where alerts are posted, and what signs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWebhook {
    /// The address.
    pub url: WebhookUrl,
    /// The secret, which only its receiver knows beside us.
    pub secret: Secret,
}

/// A rule has come true: a message of `ALERTS`, the `data` of an `alert` over the WebSocket and of a
/// webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// The same crossing always has the same id: that of the rule and the sequence of the tick.
    pub id: String,
    /// The id of the rule.
    pub rule: String,
    /// Its condition.
    pub condition: Condition,
    /// Whose condition it is.
    pub symbol: Symbol,
    /// What was compared: a price, a change in per cent, or a volume. A change has 12 significant
    /// digits; the comparison itself is exact.
    pub value: Decimal,
    /// What it was compared with. A multiple of an average has 12 significant digits; the
    /// comparison itself is exact.
    pub bound: Decimal,
    /// The price of the tick it came true with.
    pub price: Decimal,
    /// The event time of that tick.
    #[schemars(with = "Utc")]
    pub ts: Timestamp,
    /// The source of that tick.
    pub source: Source,
    /// The sequence of that tick in `TICKS`.
    pub seq: u64,
    /// The name of the API key that the rule was set with, where they are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl Alert {
    /// The id of an alert of a rule, with the sequence of the tick it came true with.
    pub fn id(rule: &str, seq: u64) -> String {
        format!("{rule}-{seq}")
    }
}

/// How a rule stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertStatus {
    /// Whether the condition held with the newest tick that said something about it. It fires when
    /// this becomes true.
    pub holds: bool,
    /// The id of its newest alert.
    pub last_alert: Option<String>,
}

/// The value of a key in the KV bucket `alert_deliveries`: what became of a rule's alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deliveries {
    /// Up to this sequence of `ALERTS` nothing of this rule is left to deliver.
    pub done_through: u64,
    /// The receiver has answered 410 Gone: nothing is posted to it any more.
    pub gone: bool,
    /// The newest deliveries, newest first; at most 20.
    pub newest: Vec<Delivery>,
}

/// What became of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// The id of the alert.
    pub alert: String,
    /// Whether it is delivered.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// The HTTP status of the newest answer.
    pub status: Option<u16>,
    /// What went wrong the last time.
    pub fault: Option<String>,
    /// When this was so.
    #[schemars(with = "Utc")]
    pub at: Timestamp,
}

/// Whether an alert is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is tried again.
    Retrying,
    /// The receiver has it.
    Delivered,
    /// It is given up.
    Failed,
}
