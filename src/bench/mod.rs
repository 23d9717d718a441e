//! `lizards bench`: benchmarks, each of which compares several things in one run.
//!
//! - [`cores`]: a core of its own for what is measured.
//! - [`process`]: processes under measurement, and what they used.
//! - [`trades`]: what is published.
//! - [`stored`]: what has arrived.
//! - [`rates`], [`statistics`]: what several runs say together.
//! - [`table`]: how it is shown.

mod cores;
mod fanout;
mod ingest;
mod process;
mod publish;
mod rates;
mod relay;
mod statistics;
mod stored;
mod table;
mod trades;

use anyhow::{Context, Result};
use clap::Subcommand;
use tokio::runtime::Runtime;

use crate::config::Config;

/// The benchmarks there are, and the processes that help them.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What a delivery over WebSocket costs the server: ours beside others, and beside the least
    /// there can be
    Fanout(fanout::Options),
    /// A server that is compared with ours
    #[command(hide = true)]
    FanoutServer(fanout::ServerOptions),
    /// The clients
    #[command(hide = true)]
    FanoutLoad(fanout::LoadOptions),
    /// What fetching costs beside the least program that does the same, on one core
    Ingest(ingest::Options),
    /// The program that is compared with ours
    #[command(hide = true)]
    IngestBare(ingest::BareOptions),
    /// The providers
    #[command(hide = true)]
    IngestStub(ingest::StubOptions),
    /// What the file source stores beside publishers that do nothing else
    Publish(publish::Options),
    /// A publisher that is compared with ours
    #[command(hide = true)]
    PublishBare(publish::BareOptions),
    /// What processing costs beside relays that only pass messages on
    Relay(relay::Options),
    /// A relay that is compared with ours
    #[command(hide = true)]
    RelayBare(relay::BareOptions),
}

impl Bench {
    /// Runs the benchmark, or its helper, to the end.
    pub(crate) fn run(self, config: &Config, runtime: &Runtime) -> Result<()> {
        match self {
            Self::Fanout(options) => {
                process::raise_file_limit().context("the limit of open files")?;
                runtime.block_on(fanout::run(&options, config))
            }
            Self::FanoutServer(options) => fanout::serve(&options, runtime),
            Self::FanoutLoad(options) => fanout::load(&options),
            Self::Ingest(options) => {
                process::raise_file_limit().context("the limit of open files")?;
                runtime.block_on(ingest::run(&options, config))
            }
            Self::IngestBare(options) => {
                runtime.block_on(ingest::fetch(&options, &config.nats.url))
            }
            Self::IngestStub(options) => runtime.block_on(ingest::offer(&options)),
            Self::Publish(options) => runtime.block_on(publish::run(&options, config)),
            Self::PublishBare(options) => {
                runtime.block_on(publish::publish(&options, &config.nats.url))
            }
            Self::Relay(options) => runtime.block_on(relay::run(&options, config)),
            Self::RelayBare(options) => runtime.block_on(relay::relay(&options, &config.nats.url)),
        }
    }
}
