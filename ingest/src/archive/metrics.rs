//! What the archive counts.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

const STORED: &str = "lizards_archive_stored_total";
const ERRORS: &str = "lizards_archive_errors_total";
const BATCH_SECONDS: &str = "lizards_archive_batch_seconds";

/// Whose fault an error is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The broker that the messages come from, or the lease.
    Broker,
    /// The store they go to.
    Store,
}

/// Explains the metrics to the recorder.
pub(super) fn describe() {
    describe_counter!(STORED, "Raw messages that the archive's store has durably.");
    describe_counter!(ERRORS, "Failed attempts of the archive, by whose fault it was.");
    describe_histogram!(BATCH_SECONDS, Unit::Seconds, "How long storing a batch took.");
}

/// A batch of so many messages was stored, and it took so long.
pub(super) fn stored(messages: usize, took: Duration) {
    counter!(STORED).increment(messages as u64);
    histogram!(BATCH_SECONDS).record(took);
}

/// An attempt failed and will be repeated.
pub(super) fn failed(fault: Fault) {
    let fault = match fault {
        Fault::Broker => "broker",
        Fault::Store => "store",
    };
    counter!(ERRORS, "fault" => fault).increment(1);
}
