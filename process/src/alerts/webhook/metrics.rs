//! The metrics of webhooks: `lizards_process_webhook*`.

use metrics::{counter, describe_counter};

const ATTEMPTS: &str = "lizards_process_webhook_attempts_total";
const DELIVERIES: &str = "lizards_process_webhook_deliveries_total";
const RESTARTS: &str = "lizards_process_webhook_restarts_total";

/// What became of an alert that has a webhook, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver has it.
    Delivered,
    /// It was given up after its last attempt, or because it may not be tried.
    Failed,
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// Says what they are, and begins to count.
pub(super) fn describe() {
    describe_counter!(
        ATTEMPTS,
        "Attempts to post an alert, by outcome: accepted, gone, forbidden, refused, timed_out, unreachable."
    );
    describe_counter!(
        DELIVERIES,
        "Alerts with a webhook that are done with, by outcome: delivered, failed."
    );
    describe_counter!(RESTARTS, "Sessions that ended early and were started anew.");
    for fate in [Fate::Delivered, Fate::Failed] {
        counter!(DELIVERIES, "outcome" => fate.as_str()).increment(0);
    }
}

/// One attempt.
pub(super) fn attempted(outcome: &'static str) {
    counter!(ATTEMPTS, "outcome" => outcome).increment(1);
}

/// An alert is done with.
pub(super) fn done(fate: Fate) {
    counter!(DELIVERIES, "outcome" => fate.as_str()).increment(1);
}

/// A session ended early.
pub(super) fn restarted() {
    counter!(RESTARTS).increment(1);
}
