//! Ingest: fetches prices politely and publishes every payload as it came; keeps the raw archive.
//!
//! It knows how to fetch and nothing of what a payload means, except what is needed to name its
//! symbol. Each [source](sources) is owned by one instance at a time, by a lease; what it fetched
//! is published in its order and kept until the broker has it.

mod access;
mod announce;
pub mod archive;
mod board;
mod config;
mod control;
mod fleet;
mod http;
mod leases;
mod metrics;
mod outlet;
mod ownership;
mod place;
mod plan;
mod publish;
mod push;
mod quota;
mod report;
mod roster;
mod settings;
mod sharing;
mod source;
mod sources;
mod spool;
mod status;
mod stored;
mod supervise;
#[cfg(test)]
mod testing;

use std::{path::Path, sync::Arc, time::Duration};

use nats::topology::Stream;
use schemas::{HtmlSite, Records};
use service::{Check, Context, Health, Protocols, Role, ServeError};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use board::Board;
use fleet::Fleet;
use plan::Configured;
use roster::Roster;
use spool::Spools;

pub use config::{
    AlpacaConfig, AlpacaEncoding, AlpacaFeed, AlphaVantageConfig, AlphaVantageFunction,
    BinanceConfig, BrowserConfig, CoinbaseConfig, Config, ConfigError, FileConfig, FileFormat,
    FinnhubConfig, FinnhubMode, KrakenConfig, SimConfig, SpoolConfig, StooqConfig,
    TwelveDataConfig, TwelveDataEndpoint, YahooConfig,
};
pub use control::{Control, ControlError};
pub use push::{PushConfig, PushFormat};

/// How often it is checked that the broker is there and takes payloads.
const BROKER_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Ingest cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] archive::ArchiveError),
    /// The HTTP service.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A bug ended a source.
    #[error("a source has crashed: {0}")]
    Crashed(#[from] tokio::task::JoinError),
}

/// Runs the sources and the archive until shutdown, then drains them.
///
/// `sites` are the web pages that `html:<site>` names, `records` how files are read; the archive's
/// embedded store is in `data_dir`.
pub async fn run(
    config: Config,
    sites: Vec<HtmlSite>,
    records: Vec<Records>,
    context: Context,
    listener: TcpListener,
    data_dir: &Path,
) -> Result<(), Error> {
    metrics::describe();
    let symbols = config.symbols(&sites, &records)?;
    let health = Health::default();
    let (broker_check, archive_check) = (health.check("broker"), health.check("archive"));
    let archive_config = config.archive.clone();
    let spools = Spools { folder: data_dir.join("spool"), bound: config.spool.max_bytes };

    // What fails takes the rest of this role with it, and nothing else of the process.
    let shutdown = context.shutdown.child_token();
    let context = Context { shutdown: shutdown.clone(), ..context };
    let roster = Arc::new(Roster::default());
    let board = Arc::new(Board::new(&context.nats, &context.instance, &roster));
    let (pushed, posts) = push::router(&config.push, &roster);
    let configured = Configured { config, sites, records };
    let role = Role {
        name: "lizards-ingest",
        listener,
        router: http::router(&configured, &context.nats, &board).merge(pushed),
        protocols: Protocols::Http1,
        endpoints: Vec::new(),
        health,
        load: Arc::default(),
    };
    // Announced before the settings are read: whoever finds us up subscribes at once.
    let (announced, symbols) = watch::channel(symbols);
    let fleet = Fleet {
        context: context.clone(),
        configured,
        roster: Arc::clone(&roster),
        spools,
        announced,
        fetched: Arc::clone(&role.load),
    };
    let (setting, settings) = watch::channel(None);
    let (nats, stop) = (context.nats.clone(), shutdown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let told = async {
            tokio::join!(settings::follow(&nats, &setting), announce::announce(&nats, symbols))
        };
        stop.run_until_cancelled(told).await;
    });
    let broker = Arc::clone(&context.broker);
    tasks.spawn(push::run(posts, broker, shutdown.clone(), context.shutdown_deadline));
    let stop = shutdown.clone();
    tasks.spawn(async move { board.tell(&stop).await });
    tasks.spawn(watch_broker(context.clone(), broker_check, roster));

    let (served, archived, fetched, told) = tokio::join!(
        stop_on_error(&shutdown, async { Ok(context.serve(role).await?) }),
        stop_on_error(&shutdown, async {
            let archive = archive::run(archive_config, data_dir, context.clone(), archive_check);
            Ok(archive.await?)
        }),
        stop_on_error(&shutdown, async { Ok(fleet.run(settings).await?) }),
        stop_on_error(&shutdown, async {
            while let Some(ended) = tasks.join_next().await {
                ended?;
            }
            Ok(())
        }),
    );
    served.and(archived).and(fetched).and(told)
}

async fn stop_on_error(
    shutdown: &CancellationToken,
    part: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let ended = part.await;
    if ended.is_err() {
        shutdown.cancel();
    }
    ended
}

/// Keeps the check true to whether the broker answers and takes what the sources fetch.
async fn watch_broker(context: Context, check: Check, roster: Arc<Roster>) {
    let watching = async {
        loop {
            let answer = context.broker.state(Stream::Raw).await.map_err(|error| error.to_string());
            match answer.and_then(|_| roster.unpublished().map_or(Ok(()), Err)) {
                Ok(()) => {
                    check.pass();
                    sleep(BROKER_CHECK_INTERVAL).await;
                }
                Err(why) => {
                    check.fail(why);
                    sleep(BROKER_CHECK_INTERVAL / 5).await;
                }
            }
        }
    };
    context.shutdown.run_until_cancelled(watching).await;
}
