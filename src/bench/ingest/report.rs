//! What a run tells.

use std::fmt;

use serde::Serialize;

use super::{Load, Target, What};
use crate::bench::{
    statistics::{Quantiles, Spread},
    table::Table,
};

/// Everything that was measured.
#[derive(Default, Serialize)]
pub(super) struct Report {
    pub(super) sections: Vec<Section>,
}

/// The targets under one load.
#[derive(Serialize)]
pub(super) struct Section {
    pub(super) what: What,
    pub(super) load: Load,
    pub(super) rows: Vec<Row>,
}

/// One target.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) target: Target,
    pub(super) runs: Vec<Run>,
}

/// What one run came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Run {
    /// Processor time of the target, as a share of one core.
    pub(super) core_share: f64,
    pub(super) payloads_per_sec: f64,
    /// Processor time for a payload, of the target and of the server, in microseconds.
    pub(super) target_us: f64,
    pub(super) server_us: f64,
    /// How much later polls came than they were due.
    pub(super) late: Quantiles,
    /// From being sent by the provider to being stored.
    pub(super) quotes: Quantiles,
    pub(super) trades: Quantiles,
}

impl Row {
    /// The middle of a value of all runs.
    fn median(&self, of: impl Fn(&Run) -> f64) -> f64 {
        Spread::of(self.runs.iter().map(of)).median
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { polled, interval_secs, answer_ms, connections, per_sec, burst } = self.load;
        f.write_str("\n")?;
        if polled > 0 {
            writeln!(f, "{polled} symbols every {interval_secs} s, answered after {answer_ms} ms")?;
        }
        if connections > 0 {
            writeln!(
                f,
                "{connections} connections with {per_sec} trades/s each, and {burst} at once \
                 every 10 s"
            )?;
        }
        f.write_str("\n")?;
        let mut table = Table::new(&[
            "target",
            "% of a core",
            "× the first",
            "payloads/s",
            "target µs",
            "server µs",
            "late p50/p99/most ms",
            "quotes p50/p99 ms",
            "trades p50/p99 ms",
        ]);
        let share = |row: &Row| row.median(|run| run.core_share);
        let first = self.rows.first().map_or(f64::NAN, share);
        for row in &self.rows {
            let quantiles = |of: fn(&Run) -> Quantiles, with_greatest: bool| {
                if row.runs.iter().all(|run| of(run).count == 0) {
                    return "–".to_owned();
                }
                let p50 = row.median(|run| of(run).p50_ms);
                let p99 = row.median(|run| of(run).p99_ms);
                let greatest = row.median(|run| of(run).greatest_ms);
                match with_greatest {
                    true => format!("{p50:.1}/{p99:.1}/{greatest:.1}"),
                    false => format!("{p50:.2}/{p99:.2}"),
                }
            };
            table.row(vec![
                row.target.name().to_owned(),
                format!("{:.1}", share(row) * 100.0),
                format!("{:.2}", share(row) / first),
                format!("{:.0}", row.median(|run| run.payloads_per_sec)),
                format!("{:.0}", row.median(|run| run.target_us)),
                format!("{:.0}", row.median(|run| run.server_us)),
                quantiles(|run| run.late, true),
                quantiles(|run| run.quotes, false),
                quantiles(|run| run.trades, false),
            ]);
        }
        table.fmt(f)
    }
}
