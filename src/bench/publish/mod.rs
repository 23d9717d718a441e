//! `lizards bench publish`: what the file source stores a second, beside publishers that do nothing
//! else.
//!
//! Every target publishes the same rows into `TICKS_RAW`, in a file, with a nats-server of its own.
//! The times at which the server stored the first and the last message tell the rate. A target that
//! loses or doubles a message fails the run.

mod bare;
mod rig;

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

use super::{
    rates::{Row, table},
    trades,
};
use crate::{
    config::Config,
    print::{complain, print},
};

pub(crate) use bare::{BareOptions, publish};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// A file of trades as `replay` takes it, `.gz` too [default: trades of that shape are made up]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many rows each time
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    messages: usize,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 3, value_name = "N")]
    repeat: usize,
    /// Write everything as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Futures,
    Inbox,
    FastIds,
    Fast,
    Ours,
}

impl Target {
    const ALL: [Self; 5] = [Self::Futures, Self::Inbox, Self::FastIds, Self::Fast, Self::Ours];

    fn name(self) -> &'static str {
        match self {
            Self::Futures => "bare: futures",
            Self::Inbox => "bare: one inbox",
            Self::FastIds => "bare: fast ingest with ids",
            Self::Fast => "bare: fast ingest",
            Self::Ours => "ours, the file source",
        }
    }
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: &Options, config: &Config) -> Result<()> {
    ensure!(options.repeat > 0 && options.messages > 1, "this would measure nothing");
    let folder = TempDir::with_prefix("lizards-bench-")?;
    let file = folder.path().join("trades.csv");
    let mut text = format!("{}\n", trades::COLUMNS);
    for row in trades::read(options.file.as_deref(), options.messages)? {
        writeln!(text, "{row}")?;
    }
    std::fs::write(&file, text)?;
    let mut runs = vec![Vec::new(); Target::ALL.len()];
    for turn in 1..=options.repeat {
        for (target, runs) in Target::ALL.into_iter().zip(&mut runs) {
            let run = rig::measure(target, config, &file, options.messages).await;
            let run = run.with_context(|| target.name())?;
            let (turns, name) = (options.repeat, target.name());
            complain(format_args!("{turn}/{turns}: {name}: {:.0}/s", run.per_sec));
            runs.push(run);
        }
    }
    let rows = Target::ALL.iter().zip(&runs);
    let report = Report { rows: rows.map(|(target, runs)| Row::of(target.name(), runs)).collect() };
    print(format_args!("\n{}", table("publisher", &report.rows)))?;
    if let Some(file) = &options.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("--json {}", file.display()))?;
    }
    Ok(())
}
