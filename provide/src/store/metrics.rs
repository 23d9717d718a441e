//! The metrics of the store's writer.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};

const WRITTEN: &str = "lizards_store_written_total";
const ERRORS: &str = "lizards_store_errors_total";
const UNREADABLE: &str = "lizards_store_unreadable_total";
const WRITE: &str = "lizards_store_write_seconds";

/// Says what the metrics mean, and shows the counters from the start.
pub(crate) fn describe() {
    describe_counter!(WRITTEN, "Ticks that the store did not have before.");
    describe_counter!(ERRORS, "Failed attempts to write to the store or to last_price.");
    describe_counter!(UNREADABLE, "Messages of TICKS that are no ticks and were passed over.");
    describe_histogram!(WRITE, "How long a batch takes from begin to commit.");
    for name in [WRITTEN, ERRORS, UNREADABLE] {
        counter!(name).absolute(0);
    }
}

/// A batch is committed.
pub(crate) fn written(new: u64, took: Duration) {
    counter!(WRITTEN).increment(new);
    histogram!(WRITE).record(took);
}

/// An attempt failed.
pub(crate) fn failed() {
    counter!(ERRORS).increment(1);
}

/// A message was passed over.
pub(crate) fn unreadable() {
    counter!(UNREADABLE).increment(1);
}
