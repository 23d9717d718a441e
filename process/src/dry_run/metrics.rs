//! The metric of the dry runs.

use metrics::{Counter, counter, describe_counter};
use schemas::DryRunStatus;

use super::{Answer, Refusal};

/// Handles, looked up once.
pub(super) struct Metrics {
    accepted: Counter,
    partly_rejected: Counter,
    rejected: Counter,
    invalid: Counter,
    busy: Counter,
    failed: Counter,
    answered: Counter,
    unanswered: Counter,
}

impl Metrics {
    pub(super) fn register() -> Self {
        describe_counter!(
            "lizards_process_dry_runs_total",
            "Dry runs, by their status; what is refused is invalid, busy or failed."
        );
        describe_counter!(
            "lizards_process_dry_run_questions_total",
            "Questions of dry runs to the instances that own their symbols, answered or unanswered."
        );
        let question = |status: &'static str| counter!("lizards_process_dry_run_questions_total", "status" => status);
        let status =
            |status: &'static str| counter!("lizards_process_dry_runs_total", "status" => status);
        Self {
            accepted: status(DryRunStatus::Accepted.as_str()),
            partly_rejected: status(DryRunStatus::PartlyRejected.as_str()),
            rejected: status(DryRunStatus::Rejected.as_str()),
            invalid: status("invalid"),
            busy: status("busy"),
            failed: status("failed"),
            answered: question("answered"),
            unanswered: question("unanswered"),
        }
    }

    pub(super) fn count(&self, answer: &Result<Answer, Refusal>) {
        let counter = match answer.as_ref().map(|answer| answer.status) {
            Ok(DryRunStatus::Accepted) => &self.accepted,
            Ok(DryRunStatus::PartlyRejected) => &self.partly_rejected,
            Ok(DryRunStatus::Rejected) => &self.rejected,
            Err(Refusal::Invalid { .. }) => &self.invalid,
            Err(Refusal::Busy) => &self.busy,
            Err(Refusal::Late | Refusal::Failed) => &self.failed,
        };
        counter.increment(1);
    }

    /// Another instance was asked.
    pub(super) fn asked(&self, is_answered: bool) {
        if is_answered { &self.answered } else { &self.unanswered }.increment(1);
    }
}
