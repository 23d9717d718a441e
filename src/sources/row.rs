//! A source in one line.

use jiff::SignedDuration;
use schemas::http::SourceStatus;

/// The names of the columns.
pub(super) const HEAD: [&str; 7] =
    ["SOURCE", "STATE", "SYMBOLS", "PUBLISHED", "LAG", "OWNERS", "LAST ERROR"];

/// What stands in them.
pub(super) fn cells(source: &SourceStatus) -> [String; 7] {
    let dash = || "-".to_owned();
    let owners: Vec<_> = source.owners.iter().map(|owner| owner.instance.as_str()).collect();
    let state = serde_json::to_value(source.state).ok();
    let error = source.setting_error.as_ref().or(source.last_error.as_ref());
    [
        source.name.clone(),
        state.as_ref().and_then(|state| state.as_str()).map_or_else(dash, str::to_owned),
        if source.symbols.is_empty() { dash() } else { source.symbols.len().to_string() },
        source.published.to_string(),
        source.lag_ms.map_or_else(dash, ago),
        if owners.is_empty() { dash() } else { owners.join(",") },
        error.cloned().unwrap_or_else(dash),
    ]
}

/// `1m 4s`: for people, who do not want milliseconds of an hour.
fn ago(lag_ms: u64) -> String {
    if lag_ms < 10_000 {
        return format!("{lag_ms}ms");
    }
    let seconds = SignedDuration::from_secs((lag_ms / 1_000).cast_signed());
    format!("{seconds:#}")
}
