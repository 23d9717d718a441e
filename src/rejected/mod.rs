//! `lizards rejected`: what could not be used, and a second chance for it.

mod list;
mod outcome;
mod retries;
mod retry;
mod show;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use schemas::{Reason, Source};

use crate::{config::Config, streams::Streams};

/// What to do with rejections.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the newest rejections, oldest first
    List(Filter),
    /// Show one with its headers and its payload
    Show {
        /// Its sequence in TICKS_REJECTED
        sequence: u64,
    },
    /// Process rejected payloads again, each exactly once
    Retry {
        /// Their sequences in TICKS_REJECTED
        #[arg(required = true)]
        sequences: Vec<u64>,
    },
}

/// Which rejections.
#[derive(Args)]
pub(crate) struct Filter {
    /// Only of this source
    #[arg(long, value_name = "NAME", value_parser = Source::new)]
    source: Option<Source>,
    /// Only for this reason, such as malformed or outlier
    #[arg(long, value_name = "NAME", value_parser = reason)]
    reason: Option<Reason>,
    /// Only since this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only until this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

fn reason(name: &str) -> Result<Reason, String> {
    Reason::from_name(name).ok_or_else(|| {
        let all = Reason::ALL.map(Reason::as_str).join(", ");
        format!("it is none of {all}")
    })
}

/// Does what was asked for.
pub(crate) async fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let streams = Streams::connect(config).await?;
    match command {
        Command::List(filter) => list::run(&streams, filter).await?,
        Command::Show { sequence } => show::run(&streams, *sequence).await?,
        Command::Retry { sequences } => return retry::run(&streams, sequences).await,
    }
    Ok(ExitCode::SUCCESS)
}
