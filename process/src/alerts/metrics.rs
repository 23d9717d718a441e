//! The metrics of the rules: `lizards_process_alert*`.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::watch::Outcome;

/// Handles, looked up once.
#[derive(Clone)]
pub(super) struct Metrics {
    rules: Gauge,
    judged: Counter,
    doubtful: Counter,
    inexact: Counter,
    unreadable: Counter,
    fired: Counter,
    restarts: Counter,
}

impl Metrics {
    pub(super) fn register() -> Self {
        describe_gauge!("lizards_process_alert_rules", "Rules that this instance judges.");
        describe_counter!(
            "lizards_process_alert_ticks_total",
            "Ticks that rules have looked at, by what became of them: judged, doubtful (flagged as outlier or out of order), inexact (a number does not fit), unreadable."
        );
        describe_counter!("lizards_process_alerts_total", "Alerts stored in ALERTS.");
        describe_counter!(
            "lizards_process_alert_restarts_total",
            "Sessions that ended early and were started anew."
        );
        let ticks = |outcome| counter!("lizards_process_alert_ticks_total", "outcome" => outcome);
        Self {
            rules: gauge!("lizards_process_alert_rules"),
            judged: ticks("judged"),
            doubtful: ticks("doubtful"),
            inexact: ticks("inexact"),
            unreadable: ticks("unreadable"),
            fired: counter!("lizards_process_alerts_total"),
            restarts: counter!("lizards_process_alert_restarts_total"),
        }
    }

    /// So many rules are judged.
    pub(super) fn rules(&self, count: usize) {
        self.rules.set(count as f64);
    }

    pub(super) fn taken(&self, outcome: Outcome) {
        match outcome {
            Outcome::Judged => self.judged.increment(1),
            Outcome::Doubtful => self.doubtful.increment(1),
            Outcome::Inexact => self.inexact.increment(1),
        }
    }

    /// A message that is no tick.
    pub(super) fn unreadable(&self) {
        self.unreadable.increment(1);
    }

    /// An alert is stored.
    pub(super) fn fired(&self) {
        self.fired.increment(1);
    }

    /// A session ended early.
    pub(super) fn restarted(&self) {
        self.restarts.increment(1);
    }
}
