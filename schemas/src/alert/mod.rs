//! Alerts: rules that somebody sets, and what is said when one of them comes true.

mod condition;
mod parse;
mod rule;
#[cfg(test)]
mod tests;
mod webhook;

pub use condition::{
    Comparison, Condition, MAX_AVERAGED, MAX_CONDITION_BYTES, MAX_WINDOW_SECS, Measure,
    VolumeBound, Window,
};
pub use parse::ConditionError;
pub use rule::{
    Alert, AlertRule, AlertStatus, Deliveries, Delivery, DeliveryState, KEPT_DELIVERIES,
    StoredWebhook,
};
pub use webhook::{Secret, WebhookUrl, WebhookUrlError, is_public};
