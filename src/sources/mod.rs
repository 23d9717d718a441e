//! `lizards sources`: which sources are fetched, how they are, and changing it while they run.

mod row;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use ingest::Control;
use schemas::{Source, SourceSetting, Symbol};

use crate::{
    config::Config,
    print::{columns, print},
    streams::Streams,
};

/// What to do with the sources.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the sources and how they are
    List {
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show one with all that is known of it, as JSON
    Show {
        /// Its name, such as coinbase
        #[arg(value_parser = Source::new)]
        source: Source,
    },
    /// Fetch a source from now on, for these symbols or for those of the configuration
    Add {
        /// Its name, such as coinbase
        #[arg(value_parser = Source::new)]
        source: Source,
        /// The symbols to fetch instead of those of the configuration
        #[arg(value_parser = Symbol::new)]
        symbols: Vec<Symbol>,
    },
    /// Fetch a source no more
    Remove {
        /// Its name
        #[arg(value_parser = Source::new)]
        source: Source,
    },
    /// Fetch these symbols, too
    Follow {
        /// The name of the source
        #[arg(value_parser = Source::new)]
        source: Source,
        /// The symbols
        #[arg(required = true, value_parser = Symbol::new)]
        symbols: Vec<Symbol>,
    },
    /// Fetch these symbols no more
    Unfollow {
        /// The name of the source
        #[arg(value_parser = Source::new)]
        source: Source,
        /// The symbols
        #[arg(required = true, value_parser = Symbol::new)]
        symbols: Vec<Symbol>,
    },
    /// Forget what was changed: the source is again as it is configured
    Reset {
        /// Its name
        #[arg(value_parser = Source::new)]
        source: Source,
    },
}

/// Does what was asked for.
pub(crate) async fn run(config: &Config, command: Command) -> Result<ExitCode> {
    let nats = Streams::connect(config).await?.nats;
    let Config { ingest, html, records, .. } = config.clone();
    let control = Control::open(&nats, ingest, html, records).await?;
    let (source, set) = match command {
        Command::List { json } => {
            list(&control, json).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Show { source } => {
            let status = control.one(&source).await?;
            print(format_args!("{}\n", serde_json::to_string_pretty(&status)?))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Reset { source } => {
            control.reset(&source).await?;
            print(format_args!("{source}: as configured\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Add { source, symbols } => {
            let symbols = (!symbols.is_empty()).then_some(symbols);
            (source.clone(), control.add(&source, symbols).await?)
        }
        Command::Remove { source } => (source.clone(), control.remove(&source).await?),
        Command::Follow { source, symbols } => {
            (source.clone(), control.follow(&source, &symbols).await?)
        }
        Command::Unfollow { source, symbols } => {
            (source.clone(), control.unfollow(&source, &symbols).await?)
        }
    };
    print(format_args!("{source}: {}\n", described(&set)))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(control: &Control, json: bool) -> Result<()> {
    let sources = control.all().await?;
    if sources.is_empty() {
        bail!("there is no source: none is configured, and none was added");
    }
    if !json {
        print(columns(row::HEAD, sources.iter().map(row::cells)))?;
        return Ok(());
    }
    for source in &sources {
        print(format_args!("{}\n", serde_json::to_string(source)?))?;
    }
    Ok(())
}

/// What holds now, in words.
fn described(setting: &SourceSetting) -> String {
    let symbols = match &setting.symbols {
        Some(symbols) => symbols.iter().map(Symbol::as_str).collect::<Vec<_>>().join(" "),
        None => "as configured".to_owned(),
    };
    match setting.enabled {
        Some(false) => "not fetched any more".to_owned(),
        _ => format!("fetched: {symbols}"),
    }
}
