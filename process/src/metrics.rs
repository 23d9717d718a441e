//! The metrics of the role: `lizards_process_*`.
//!
//! Payloads and events are counted once each, when all that came of them is stored; so
//! `events_total` = `ticks_total` + the sum of `rejections_total` at any moment but the one in
//! which a payload is counted.

use jiff::Timestamp;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use schemas::Reason;

/// Handles, looked up once: the counting itself is an atomic addition.
pub(crate) struct Metrics {
    payloads: Counter,
    events: Counter,
    ticks: Counter,
    rejections: [Counter; Reason::ALL.len()],
    server_duplicates: Counter,
    restarts: Counter,
    careful: Counter,
    latency: Histogram,
}

impl Metrics {
    pub(crate) fn register() -> Self {
        describe_counter!("lizards_process_payloads_total", "Raw payloads processed.");
        describe_counter!(
            "lizards_process_events_total",
            "Events found in them: each became a tick or a rejection."
        );
        describe_counter!("lizards_process_ticks_total", "Events that became ticks.");
        describe_counter!("lizards_process_rejections_total", "Events rejected, by reason.");
        describe_counter!(
            "lizards_process_server_duplicates_total",
            "Ticks that the stream dropped, because it had that id already."
        );
        describe_counter!(
            "lizards_process_restarts_total",
            "Processing sessions that ended early and were started anew."
        );
        describe_counter!(
            "lizards_process_careful_payloads_total",
            "Payloads decoded one at a time, because processes had ended where they are."
        );
        describe_histogram!(
            "lizards_process_latency_seconds",
            "From the reception of a payload until all that came of it is stored."
        );
        Self {
            payloads: counter!("lizards_process_payloads_total"),
            events: counter!("lizards_process_events_total"),
            ticks: counter!("lizards_process_ticks_total"),
            rejections: Reason::ALL.map(
                |reason| counter!("lizards_process_rejections_total", "reason" => reason.as_str()),
            ),
            server_duplicates: counter!("lizards_process_server_duplicates_total"),
            restarts: counter!("lizards_process_restarts_total"),
            careful: counter!("lizards_process_careful_payloads_total"),
            latency: histogram!("lizards_process_latency_seconds"),
        }
    }

    /// A payload is done with.
    pub(crate) fn processed(&self, ticks: u64, rejections: &[Reason]) {
        self.payloads.increment(1);
        self.events.increment(ticks + rejections.len() as u64);
        self.ticks.increment(ticks);
        for rejected in rejections {
            for (reason, counter) in Reason::ALL.iter().zip(&self.rejections) {
                if reason == rejected {
                    counter.increment(1);
                }
            }
        }
    }

    /// All that came of a payload is stored now.
    pub(crate) fn stored(&self, received_at: Timestamp) {
        let latency = Timestamp::now().duration_since(received_at);
        self.latency.record(latency.as_secs_f64().max(0.0));
    }

    /// The stream had a tick's id already.
    pub(crate) fn server_duplicate(&self) {
        self.server_duplicates.increment(1);
    }

    /// A payload is tried by itself.
    pub(crate) fn careful(&self) {
        self.careful.increment(1);
    }

    /// A session ended early.
    pub(crate) fn restarted(&self) {
        self.restarts.increment(1);
    }
}
