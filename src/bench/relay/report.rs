//! What came of it, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::{What, rig::Run};
use crate::bench::{
    statistics::{Quantiles, Spread},
    table::Table,
};

/// Everything.
#[derive(Default, Serialize)]
pub(super) struct Report {
    pub(super) sections: Vec<Section>,
    pub(super) delays: Vec<Delay>,
    pub(super) memory: Option<Memory>,
}

/// Several targets beside each other.
#[derive(Serialize)]
pub(super) struct Section {
    pub(super) what: What,
    pub(super) rows: Vec<Row>,
}

/// A target: messages a second, and microseconds of processor time a message.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) per_sec: Spread,
    pub(super) server_us: Spread,
    pub(super) target_us: Spread,
}

#[derive(Serialize)]
pub(super) struct Delay {
    pub(super) name: String,
    pub(super) delays: Quantiles,
}

/// The memory of a processor, at twenty times of a run.
#[derive(Serialize)]
pub(super) struct Memory {
    pub(super) messages: usize,
    pub(super) resident: Vec<u64>,
}

impl Row {
    pub(super) fn of(name: String, runs: &[Run]) -> Self {
        let micros = |of: fn(&Run) -> std::time::Duration| {
            Spread::of(runs.iter().map(|run| of(run).as_secs_f64() * 1e6))
        };
        Self {
            name,
            per_sec: Spread::of(runs.iter().map(|run| run.per_sec)),
            server_us: micros(|run| run.server),
            target_us: micros(|run| run.target),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = self.rows.iter().filter(|row| row.name.starts_with("bare"));
        let best = best.map(|row| row.per_sec.median).fold(0.0, f64::max);
        let head = [
            "relay",
            "messages/s",
            "least",
            "greatest",
            "of the best bare",
            "server µs",
            "relay µs",
        ];
        let mut table = Table::new(&head);
        for row in &self.rows {
            let share = if best > 0.0 { row.per_sec.median / best * 100.0 } else { f64::NAN };
            table.row(vec![
                row.name.clone(),
                format!("{:.0}", row.per_sec.median),
                format!("{:.0}", row.per_sec.least),
                format!("{:.0}", row.per_sec.greatest),
                if share.is_nan() { String::new() } else { format!("{share:.0} %") },
                format!("{:.1}", row.server_us.median),
                format!("{:.1}", row.target_us.median),
            ]);
        }
        write!(f, "\n{:?}\n\n{table}", self.what)
    }
}

impl Report {
    pub(super) fn delay_table(&self) -> String {
        let mut table = Table::new(&["two hops at 1,000/s", "p50 ms", "p99 ms", "greatest ms"]);
        for Delay { name, delays } in &self.delays {
            table.row(vec![
                name.clone(),
                format!("{:.2}", delays.p50_ms),
                format!("{:.2}", delays.p99_ms),
                format!("{:.2}", delays.greatest_ms),
            ]);
        }
        format!("\nDelay\n\n{table}")
    }

    pub(super) fn memory_table(&self) -> String {
        let Some(Memory { messages, resident }) = &self.memory else { return String::new() };
        let mib: Vec<_> = resident.iter().map(|bytes| (bytes >> 20).to_string()).collect();
        format!("\nMemory\n\n{messages} messages; MiB at twenty times: {}\n", mib.join(" "))
    }
}
