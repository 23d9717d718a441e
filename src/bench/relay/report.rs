//! What came of it, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::What;
use crate::bench::{
    rates::{Row, table},
    statistics::Quantiles,
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

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:?}\n\n{}", self.what, table("relay", &self.rows))
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
