//! `lizards raw`: reads the raw archive back, and processes what is in it again.

mod export;
mod get;
mod line;
mod list;
mod pages;
mod replay;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use ingest::archive::{self, Selection};
use jiff::Timestamp;
use schemas::{Source, Symbol};

use crate::config::Config;

/// What to do with the archive.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show one payload with its envelope
    Get {
        /// Its message id
        id: String,
        /// Only the payload, byte for byte
        #[arg(long)]
        body: bool,
        /// One JSON object, as export writes it
        #[arg(long, conflicts_with = "body")]
        json: bool,
    },
    /// List the newest payloads, oldest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many, up to 100000
        #[arg(long, value_name = "N", default_value_t = 20,
              value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Write payloads with their envelopes as NDJSON, by their time of receipt
    ///
    /// A body that is UTF-8 is the text `body`, any other is `body_base64`: both give back every
    /// byte.
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Into this file, which must not be there, instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Go on in the file behind its last whole line
        #[arg(long, requires = "output")]
        resume: bool,
    },
    /// Process archived payloads again, but for those that are ticks already
    Replay {
        #[command(flatten)]
        filter: Filter,
        /// Only say how many it would be
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which payloads.
#[derive(Args)]
pub(crate) struct Filter {
    /// Only of this source
    #[arg(long, value_name = "NAME", value_parser = Source::new)]
    source: Option<Source>,
    /// Only about this symbol; what is about many is left out
    #[arg(long, value_name = "SYMBOL", value_parser = Symbol::new)]
    symbol: Option<Symbol>,
    /// Only received at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only received before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
}

impl Filter {
    fn selection(&self) -> Selection {
        Selection {
            source: self.source.as_ref().map(ToString::to_string),
            symbol: self.symbol.as_ref().map(ToString::to_string),
            from: self.from,
            to: self.to,
        }
    }
}

/// Does what was asked for.
pub(crate) async fn run(config: &Config, command: &Command) -> Result<ExitCode> {
    let store = archive::open_to_read(&config.ingest.archive, &config.data_dir).await?;
    let store = &*store;
    match command {
        Command::Get { id, body, json } => get::run(store, id, *body, *json).await?,
        Command::List { filter, limit, json } => {
            list::run(store, &filter.selection(), *limit, *json).await?;
        }
        Command::Export { filter, output, resume } => {
            export::run(store, &filter.selection(), output.as_deref(), *resume).await?;
        }
        Command::Replay { filter, dry_run } => {
            replay::run(config, store, filter.selection(), *dry_run).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
