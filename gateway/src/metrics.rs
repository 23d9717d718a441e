//! The metrics of the gateway. Their labels are bounded: patterns of the routing table, names of
//! our own services, classes of status codes.

use std::time::Duration;

use axum::http::StatusCode;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

const REQUESTS: &str = "lizards_gateway_requests_total";
const RATE_LIMITED: &str = "lizards_gateway_rate_limited_total";
const CACHE_HITS: &str = "lizards_gateway_cache_hits_total";
const CACHE_MISSES: &str = "lizards_gateway_cache_misses_total";
const UPSTREAM_ERRORS: &str = "lizards_gateway_upstream_errors_total";
const UPSTREAM_SECONDS: &str = "lizards_gateway_upstream_seconds";
const TUNNELS: &str = "lizards_gateway_tunnels";

pub(crate) fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by route and class of status");
    describe_counter!(RATE_LIMITED, "Requests refused because their client made too many");
    describe_counter!(CACHE_HITS, "Answers given from the cache");
    describe_counter!(CACHE_MISSES, "Answers that the cache had to ask an instance for");
    describe_counter!(UPSTREAM_ERRORS, "Attempts at an instance that failed, by service");
    describe_histogram!(
        UPSTREAM_SECONDS,
        Unit::Seconds,
        "Time until an instance began its answer, by service"
    );
    describe_gauge!(TUNNELS, "WebSockets open through the gateway");
    rate_limited().increment(0);
    cache_hits().increment(0);
    cache_misses().increment(0);
    tunnels().set(0.0);
}

pub(crate) fn answered(route: &str, status: StatusCode) {
    let class = match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    counter!(REQUESTS, "route" => route.to_owned(), "status" => class).increment(1);
}

pub(crate) fn rate_limited() -> metrics::Counter {
    counter!(RATE_LIMITED)
}

pub(crate) fn cache_hits() -> metrics::Counter {
    counter!(CACHE_HITS)
}

pub(crate) fn cache_misses() -> metrics::Counter {
    counter!(CACHE_MISSES)
}

pub(crate) fn upstream_failed(service: &'static str) {
    counter!(UPSTREAM_ERRORS, "service" => service).increment(1);
}

pub(crate) fn upstream_answered(service: &'static str, after: Duration) {
    histogram!(UPSTREAM_SECONDS, "service" => service).record(after);
}

pub(crate) fn tunnels() -> metrics::Gauge {
    gauge!(TUNNELS)
}
