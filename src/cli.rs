//! The command line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use service::Telemetry;

use crate::{
    bench::Bench,
    config::{Config, Loaded, Overrides, ProcessEnvironment},
    doctor, dry_run,
    print::print,
    raw, rejected, replay, roles,
    roles::RoleName,
    sources, up, watch,
};

/// A real-time stock price tracker: a NATS JetStream event-streaming pipeline.
#[derive(Parser)]
#[command(name = "lizards", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// The configuration file [default: ./lizards.toml, if it is there; env: LIZARDS_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where data is kept [default: ./data; env: LIZARDS_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// The NATS servers to use, instead of a private one [env: LIZARDS_NATS_URL]
    #[arg(long, global = true, value_name = "URL")]
    nats_url: Option<String>,
    /// Sets any key of the configuration; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process, with a private nats-server
    Up {
        /// Play a file of trades instead of the configured sources
        #[arg(long, value_name = "FILE")]
        replay: Option<String>,
        /// How fast to play it: 1x, 60x, or max
        #[arg(long, value_name = "SPEED", requires = "replay")]
        speed: Option<String>,
    },
    /// Fetch prices and publish them raw
    Ingest,
    /// Decode, validate and republish ticks
    Process,
    /// Store ticks and serve them over WebSockets and HTTP
    Provide,
    /// The one door in front of all other roles
    Gateway,
    /// Print the effective configuration and where each value comes from
    Config,
    /// Say what is wrong with the setup, in plain words
    Doctor,
    /// Read the raw archive back, and process what is in it again
    #[command(subcommand)]
    Raw(raw::Command),
    /// Say which sources are fetched, how they are, and change it while they run
    #[command(subcommand)]
    Sources(sources::Command),
    /// Look at what could not be used, and try it again
    #[command(subcommand)]
    Rejected(rejected::Command),
    /// Say what a payload would become: nothing is published, stored or remembered
    DryRun(dry_run::Payload),
    /// Follow prices in the terminal
    Watch {
        /// Symbols, prefixes such as BTC-*, or * for all
        #[arg(default_value = "*")]
        symbols: Vec<String>,
    },
    /// Measure, beside others and beside the least there can be
    #[command(subcommand)]
    Bench(Bench),
}

impl Cli {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut overrides = Overrides::default();
        overrides.flag("--data-dir", "data_dir", self.options.data_dir);
        overrides.flag("--nats-url", "nats.url", self.options.nats_url);
        overrides.assignments(&self.options.set)?;
        if let Command::Up { replay: Some(file), speed } = &self.command {
            replay::apply(&mut overrides, file, speed.as_deref());
        }
        let loaded = Config::load(self.options.config, &overrides, &ProcessEnvironment)?;
        match self.command {
            Command::Up { .. } => run(&loaded, up::run),
            Command::Ingest => run(&loaded, |config, telemetry| {
                roles::run_one(RoleName::Ingest, config, telemetry)
            }),
            Command::Process => run(&loaded, |config, telemetry| {
                roles::run_one(RoleName::Process, config, telemetry)
            }),
            Command::Provide => run(&loaded, |config, telemetry| {
                roles::run_one(RoleName::Provide, config, telemetry)
            }),
            Command::Gateway => run(&loaded, |config, telemetry| {
                roles::run_one(RoleName::Gateway, config, telemetry)
            }),
            Command::Config => {
                print(&loaded)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Doctor => runtime()?.block_on(doctor::run(&loaded.config)),
            Command::Raw(command) => runtime()?.block_on(raw::run(&loaded.config, &command)),
            Command::Rejected(command) => {
                runtime()?.block_on(rejected::run(&loaded.config, &command))
            }
            Command::DryRun(payload) => runtime()?.block_on(dry_run::run(&loaded.config, &payload)),
            Command::Sources(command) => runtime()?.block_on(sources::run(&loaded.config, command)),
            Command::Watch { symbols } => {
                runtime()?.block_on(watch::run(&loaded.config, &symbols))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Bench(bench) => {
                bench.run(&loaded.config, &runtime()?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Sets up logging and metrics, then runs to the end.
fn run<F, Running>(loaded: &Loaded, role: F) -> Result<ExitCode>
where
    F: FnOnce(Config, Telemetry) -> Running,
    Running: Future<Output = Result<()>>,
{
    let config = loaded.config.clone();
    config.check()?;
    let telemetry = Telemetry::install(&config.log)?;
    runtime()?.block_on(async {
        tokio::select! {
            ended = role(config, telemetry.clone()) => ended,
            never = telemetry.keep_bounded() => match never {},
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // The one TLS provider of the process; a second call would only find it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().context("the runtime does not start")
}
