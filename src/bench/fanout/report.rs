//! What came out, as tables and as JSON.

use std::fmt;

use serde::Serialize;

use super::{mode::Mode, rig::Run, target::Target};
use crate::bench::{statistics::Spread, table::Table};

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) sections: Vec<Section>,
    pub(super) idle: Vec<Idle>,
}

/// One way in which ticks came, to one number of clients: all targets beside each other.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) mode: Mode,
    /// What was different from the mode's usual.
    pub(super) remark: &'static str,
    pub(super) clients: u64,
    pub(super) rows: Vec<Row>,
}

/// One target, from several runs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    target: Target,
    runs: usize,
    /// Processor time of the server per delivery, in microseconds: the seconds per million.
    cpu_us: Spread,
    /// Processor time of the nats-server that stores the ticks for it, likewise.
    broker_cpu_us: Option<Spread>,
    deliveries_per_sec: Spread,
    ticks_per_sec: Spread,
    /// From publishing to reading, in milliseconds; 0 where nobody looked.
    p50_ms: Spread,
    p99_ms: Spread,
}

/// The memory of connections that do nothing.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    pub(super) target: Target,
    pub(super) connections: u64,
    pub(super) bytes_before: u64,
    pub(super) bytes_after: u64,
}

impl Row {
    pub(super) fn of(target: Target, runs: &[Run]) -> Self {
        let spread = |value: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(value));
        let per_delivery = |time: std::time::Duration, run: &Run| {
            time.as_secs_f64() * 1e6 / count(run.deliveries.max(1))
        };
        let broker = runs.iter().any(|run| run.broker_cpu.is_some());
        let broker_time = |run: &Run| run.broker_cpu.unwrap_or_default();
        Self {
            target,
            runs: runs.len(),
            cpu_us: spread(&|run| per_delivery(run.cpu, run)),
            broker_cpu_us: broker.then(|| spread(&|run| per_delivery(broker_time(run), run))),
            deliveries_per_sec: spread(&|run| count(run.deliveries) / run.elapsed.as_secs_f64()),
            ticks_per_sec: spread(&|run| count(run.ticks) / run.elapsed.as_secs_f64()),
            p50_ms: spread(&|run| run.delays.p50_ms),
            p99_ms: spread(&|run| run.delays.p99_ms),
        }
    }
}

/// As a number to reckon with: exact for anything that a benchmark can count.
fn count(number: u64) -> f64 {
    number as f64
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, clients) = (self.mode.name(), self.clients);
        let remark = if self.remark.is_empty() { "" } else { ", " };
        writeln!(f, "\n{mode}, {clients} clients{remark}{}\n", self.remark)?;
        let mut table = Table::new(&[
            "target",
            "µs/delivery",
            "from",
            "to",
            "× floor",
            "× nats",
            "deliveries/s",
            "ticks/s",
            "p50 ms",
            "p99 ms",
            "broker µs",
        ]);
        let cost = |target| self.rows.iter().find(|row| row.target == target).map(|row| row.cpu_us);
        let ratio = |row: &Row, to: Target| {
            cost(to).map_or("–".to_owned(), |to| format!("{:.2}", row.cpu_us.median / to.median))
        };
        let delay = |delay: Spread| match delay.median {
            0.0 => "–".to_owned(),
            median => format!("{median:.2}"),
        };
        for row in &self.rows {
            table.row(vec![
                row.target.name().to_owned(),
                format!("{:.3}", row.cpu_us.median),
                format!("{:.3}", row.cpu_us.least),
                format!("{:.3}", row.cpu_us.greatest),
                ratio(row, Target::Floor),
                ratio(row, Target::Nats),
                format!("{:.0}", row.deliveries_per_sec.median),
                format!("{:.0}", row.ticks_per_sec.median),
                delay(row.p50_ms),
                delay(row.p99_ms),
                row.broker_cpu_us.map_or("–".to_owned(), |cost| format!("{:.3}", cost.median)),
            ]);
        }
        table.fmt(f)
    }
}

impl Report {
    /// The table of memory.
    pub(super) fn idle_table(&self) -> Table {
        let mut table =
            Table::new(&["target", "connections", "MB before", "MB more", "bytes each"]);
        for idle in &self.idle {
            let more = idle.bytes_after.saturating_sub(idle.bytes_before);
            table.row(vec![
                idle.target.name().to_owned(),
                idle.connections.to_string(),
                format!("{:.1}", count(idle.bytes_before) / 1e6),
                format!("{:.1}", count(more) / 1e6),
                (more / idle.connections.max(1)).to_string(),
            ]);
        }
        table
    }
}
