//! `lizards bench ingest`: what fetching costs, beside the least program that does the same.
//!
//! Stub providers in a process of their own offer quotes to be polled and trades over WebSockets, and
//! remember what they send. The target fetches it on a core that it has for itself, into `TICKS_RAW`
//! of a nats-server on the others. A payload that is lost, doubled or altered fails the run.

mod bare;
mod lateness;
mod load;
mod provider;
mod report;
mod rig;
mod stub;
mod verdict;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    bench::cores,
    config::Config,
    print::{complain, print},
};
use load::Load;
use report::{Report, Row, Section};
use rig::Rig;

pub(crate) use bare::{BareOptions, fetch};
pub(crate) use stub::{StubOptions, offer};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// What to measure [default: polls, streams, both]
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    only: Vec<What>,
    /// How many symbols are polled
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    polled: usize,
    /// How long after a poll of a symbol the next is due
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    interval_secs: u64,
    /// How long an answer to a poll takes
    #[arg(long, default_value_t = 50, value_name = "MILLISECONDS")]
    answer_ms: u64,
    /// How many streaming connections there are
    #[arg(long, default_value_t = 20, value_name = "N")]
    connections: usize,
    /// How many trades a second each of them brings
    #[arg(long, default_value_t = 50, value_name = "N")]
    per_sec: u64,
    /// How many more come at once on each of them, every ten seconds
    #[arg(long, default_value_t = 100, value_name = "N")]
    burst: u64,
    /// How long each is measured
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
    secs: f64,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: usize,
    /// Write everything as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// Polls alone
    Polls,
    /// Streams alone
    Streams,
    /// Polls and streams
    Both,
    /// The same with the archive, beside ours without
    Archive,
    /// Polls alone, each symbol every second, answered within 5 ms
    FastPolls,
    /// Streams alone, with ten times as many trades
    FastStreams,
}

/// Who fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Target {
    Bare,
    Ours,
    WithArchive,
}

impl What {
    fn load(self, options: &Options) -> Load {
        let both = Load {
            polled: options.polled,
            interval_secs: options.interval_secs,
            answer_ms: options.answer_ms,
            connections: options.connections,
            per_sec: options.per_sec,
            burst: options.burst,
        };
        match self {
            Self::Polls => Load { connections: 0, ..both },
            Self::Streams => Load { polled: 0, ..both },
            Self::Both | Self::Archive => both,
            Self::FastPolls => {
                let answer_ms = both.answer_ms.min(5);
                Load { connections: 0, interval_secs: 1, answer_ms, ..both }
            }
            Self::FastStreams => Load { polled: 0, per_sec: 10 * both.per_sec, ..both },
        }
    }

    fn targets(self) -> [Target; 2] {
        match self {
            Self::Archive => [Target::Ours, Target::WithArchive],
            _ => [Target::Bare, Target::Ours],
        }
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Ours => "ours",
            Self::WithArchive => "ours, with the archive",
        }
    }
}

/// Measures, and prints each table as soon as it is whole.
pub(crate) async fn run(options: &Options, config: &Config) -> Result<()> {
    let measures = options.repeat > 0 && options.secs > 0.0 && options.interval_secs > 0;
    ensure!(
        measures && options.polled > 0 && options.connections > 0,
        "this would measure nothing"
    );
    let core = cores::clear_the_last()?;
    let what = match options.only.as_slice() {
        [] => &[What::Polls, What::Streams, What::Both],
        only => only,
    };
    let mut report = Report::default();
    for what in what {
        let (load, targets) = (what.load(options), what.targets());
        let mut rows = targets.map(|target| Row { target, runs: Vec::new() });
        for turn in 1..=options.repeat {
            for row in &mut rows {
                let name = row.target.name();
                let rig = Rig::start(row.target, load, core, config).await;
                let run = rig.with_context(|| name)?.measure(options.secs).await;
                let run = run.with_context(|| name)?;
                let (turns, percent) = (options.repeat, run.core_share * 100.0);
                complain(format_args!("{turn}/{turns}: {name}: {percent:.1} % of a core"));
                row.runs.push(run);
            }
        }
        let section = Section { what: *what, load, rows: rows.into() };
        print(&section)?;
        report.sections.push(section);
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("--json {}", file.display()))?;
    }
    Ok(())
}
