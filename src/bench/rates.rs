//! Messages a second of several targets beside each other.

use std::time::Duration;

use serde::Serialize;

use super::{statistics::Spread, table::Table};

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) per_sec: f64,
    /// Processor time for a message, of the server and of the target.
    pub(super) server: Duration,
    pub(super) target: Duration,
}

/// A target: messages a second, and microseconds of processor time a message.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) per_sec: Spread,
    pub(super) server_us: Spread,
    pub(super) target_us: Spread,
}

impl Row {
    pub(super) fn of(name: impl Into<String>, runs: &[Run]) -> Self {
        let micros = |of: fn(&Run) -> Duration| {
            Spread::of(runs.iter().map(|run| of(run).as_secs_f64() * 1e6))
        };
        Self {
            name: name.into(),
            per_sec: Spread::of(runs.iter().map(|run| run.per_sec)),
            server_us: micros(|run| run.server),
            target_us: micros(|run| run.target),
        }
    }
}

/// The rows, each beside the best whose name begins with `bare`. `what` the targets are.
pub(super) fn table(what: &str, rows: &[Row]) -> Table {
    let best = rows.iter().filter(|row| row.name.starts_with("bare"));
    let best = best.map(|row| row.per_sec.median).fold(0.0, f64::max);
    let own = format!("{what} µs");
    let head = [
        what,
        "messages/s",
        "least",
        "greatest",
        "of the best bare",
        "server µs",
        "server's cores",
        own.as_str(),
    ];
    let mut table = Table::new(&head);
    for row in rows {
        let share = if best > 0.0 { row.per_sec.median / best * 100.0 } else { f64::NAN };
        table.row(vec![
            row.name.clone(),
            format!("{:.0}", row.per_sec.median),
            format!("{:.0}", row.per_sec.least),
            format!("{:.0}", row.per_sec.greatest),
            if share.is_nan() { String::new() } else { format!("{share:.0} %") },
            format!("{:.1}", row.server_us.median),
            format!("{:.2}", row.server_us.median * row.per_sec.median / 1e6),
            format!("{:.1}", row.target_us.median),
        ]);
    }
    table
}
