//! What the serving half counts.

use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};
use schemas::ErrorCode;

const TICKS: &str = "lizards_provide_ticks_total";
const DELIVERIES: &str = "lizards_provide_deliveries_total";
const CONNECTIONS: &str = "lizards_provide_connections";
const SLOW_CLIENTS: &str = "lizards_provide_slow_clients_total";
const CLIENT_ERRORS: &str = "lizards_provide_client_errors_total";
const REFUSED: &str = "lizards_provide_refused_total";
const REPLAYS: &str = "lizards_provide_replays_total";

/// Says what they are, and begins to count: a rate needs the zero before the first event.
pub(crate) fn describe() {
    describe_counter!(TICKS, "Ticks that came from the stream into the hub");
    describe_counter!(DELIVERIES, "Price updates written to WebSocket clients");
    describe_gauge!(CONNECTIONS, "Open WebSocket connections");
    describe_counter!(SLOW_CLIENTS, "WebSocket clients closed because they read too slowly");
    describe_counter!(CLIENT_ERRORS, "Errors sent to WebSocket clients, by code");
    describe_counter!(REFUSED, "Clients that were not let in, by reason");
    describe_counter!(REPLAYS, "Replays that WebSocket clients asked for");
    for name in [TICKS, DELIVERIES, SLOW_CLIENTS, REPLAYS] {
        counter!(name).increment(0);
    }
}

/// So many ticks came from the stream into the hub.
pub(crate) fn ticks(count: usize) {
    counter!(TICKS).increment(count as u64);
}

/// Where the flushers, who deliver most, count it.
pub(crate) fn deliveries_counter() -> Counter {
    counter!(DELIVERIES)
}

/// So many price updates were written to clients.
pub(crate) fn deliveries(count: u64) {
    counter!(DELIVERIES).increment(count);
}

/// So many WebSocket connections are open.
pub(crate) fn connections(count: u64) {
    gauge!(CONNECTIONS).set(count as f64);
}

/// A client was closed because it read too slowly.
pub(crate) fn slow_client() {
    counter!(SLOW_CLIENTS).increment(1);
}

/// A client was sent an error.
pub(crate) fn client_error(code: ErrorCode) {
    let code = match code {
        ErrorCode::InvalidSymbol => "invalid_symbol",
        ErrorCode::InvalidInterval => "invalid_interval",
        ErrorCode::InvalidMessage => "invalid_message",
        ErrorCode::TooManySymbols => "too_many_symbols",
        ErrorCode::HistoryTruncated => "history_truncated",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Forbidden => "forbidden",
        ErrorCode::TooManyMessages => "too_many_messages",
    };
    counter!(CLIENT_ERRORS, "code" => code).increment(1);
}

/// Why a client was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its page is none of those that may connect.
    Origin,
    /// It showed no valid token, or no known API key.
    Credentials,
    /// As many clients were connected as may be.
    Full,
}

/// A client was not let in.
pub(crate) fn refused(why: Refused) {
    let reason = match why {
        Refused::Origin => "origin",
        Refused::Credentials => "credentials",
        Refused::Full => "full",
    };
    counter!(REFUSED, "reason" => reason).increment(1);
}

/// A client asked for a replay.
pub(crate) fn replay() {
    counter!(REPLAYS).increment(1);
}
