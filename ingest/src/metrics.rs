//! The metrics of fetching and publishing. `kind` is the part of a source's name before the colon,
//! so that there are as many label values as there are kinds of sources.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use schemas::Source;

use crate::source::ErrorKind;

const PUBLISHED: &str = "lizards_ingest_published_total";
const DUPLICATES: &str = "lizards_ingest_duplicates_total";
const FETCH_ERRORS: &str = "lizards_ingest_fetch_errors_total";
const MISSED: &str = "lizards_ingest_missed_total";
const UNCHANGED: &str = "lizards_ingest_unchanged_total";
const SETTINGS_REFUSED: &str = "lizards_ingest_settings_refused_total";
const POSTS_REFUSED: &str = "lizards_ingest_posts_refused_total";
const IN_FLIGHT: &str = "lizards_ingest_in_flight";
const SPOOL_BYTES: &str = "lizards_ingest_spool_bytes";
const SPOOL_FULL: &str = "lizards_ingest_spool_full";
const SPOOL_TORN: &str = "lizards_ingest_spool_torn_total";

/// Describes them all, once per process.
pub(crate) fn describe() {
    describe_counter!(PUBLISHED, "Payloads that the broker has stored.");
    describe_counter!(DUPLICATES, "Payloads that the broker already had, by their message id.");
    describe_counter!(FETCH_ERRORS, "Failures to fetch, and payloads that cannot be published.");
    describe_counter!(MISSED, "Events that the provider numbered and did not send us.");
    describe_counter!(UNCHANGED, "Fetches that gave the same as the one before.");
    describe_counter!(SETTINGS_REFUSED, "Settings of sources that cannot be used.");
    describe_counter!(POSTS_REFUSED, "What others posted and was not taken.");
    describe_gauge!(IN_FLIGHT, "Payloads in memory that the broker has not confirmed.");
    describe_gauge!(SPOOL_BYTES, Unit::Bytes, "What is spooled on disk until the broker has it.");
    describe_gauge!(SPOOL_FULL, "Sources that are paused because their spool is full.");
    describe_counter!(SPOOL_TORN, "Ends of spools that a crash has torn, and that were cut away.");
}

pub(crate) fn published(source: &Source) -> Counter {
    counter!(PUBLISHED, "kind" => source.kind().to_owned())
}

pub(crate) fn duplicates(source: &Source) -> Counter {
    counter!(DUPLICATES, "kind" => source.kind().to_owned())
}

pub(crate) fn fetch_errors(source: &Source, error: ErrorKind) -> Counter {
    counter!(FETCH_ERRORS, "kind" => source.kind().to_owned(), "error" => error.as_str())
}

pub(crate) fn missed(source: &Source) -> Counter {
    counter!(MISSED, "kind" => source.kind().to_owned())
}

pub(crate) fn unchanged(source: &Source) -> Counter {
    counter!(UNCHANGED, "kind" => source.kind().to_owned())
}

pub(crate) fn settings_refused(source: &Source) -> Counter {
    counter!(SETTINGS_REFUSED, "kind" => source.kind().to_owned())
}

pub(crate) fn posts_refused(reason: &'static str) -> Counter {
    counter!(POSTS_REFUSED, "reason" => reason)
}

pub(crate) fn in_flight() -> Gauge {
    gauge!(IN_FLIGHT)
}

pub(crate) fn spool_bytes(source: &Source) -> Gauge {
    gauge!(SPOOL_BYTES, "kind" => source.kind().to_owned())
}

pub(crate) fn spool_full(source: &Source) -> Gauge {
    gauge!(SPOOL_FULL, "kind" => source.kind().to_owned())
}

pub(crate) fn spool_torn(source: &Source) -> Counter {
    counter!(SPOOL_TORN, "kind" => source.kind().to_owned())
}
