//! Ingest: fetches prices politely and publishes every payload as it came; keeps the raw archive.
//!
//! It knows how to fetch and nothing of what a payload means, except what is needed to name its
//! symbol. Each [source](sources) is owned by one instance at a time, by a lease; what it fetched
//! is published in its order and kept until the broker has it.

mod announce;
pub mod archive;
mod config;
mod http;
mod metrics;
mod outlet;
mod publish;
mod source;
mod sources;
mod status;
mod supervise;
#[cfg(test)]
mod testing;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use nats::topology::Stream;
use schemas::{HtmlSite, Records, Symbol};
use service::{Check, Context, Health, Role, ServeError};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use source::Followed;
use status::Status;
use supervise::Supervised;

pub use config::{
    AlphaVantageConfig, CoinbaseConfig, Config, ConfigError, FileConfig, FileFormat, SimConfig,
};

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
/// `sites` are the web pages that `html:<site>` names, `records` how files are read; the archive's embedded store is in
/// `data_dir`.
pub async fn run(
    config: Config,
    sites: Vec<HtmlSite>,
    records: Vec<Records>,
    context: Context,
    listener: TcpListener,
    data_dir: &Path,
) -> Result<(), Error> {
    metrics::describe();
    let sources = sources::build(&config, &sites, &records)?;
    let symbols: BTreeSet<Symbol> = sources.iter().flat_map(|source| source.symbols()).collect();
    let statuses: Arc<[_]> = sources.iter().map(|source| Arc::new(Status::of(&**source))).collect();
    let health = Health::default();
    let (broker_check, archive_check) = (health.check("broker"), health.check("archive"));

    // What fails takes the rest of this role with it, and nothing else of the process.
    let shutdown = context.shutdown.child_token();
    let context = Context { shutdown: shutdown.clone(), ..context };
    let role = Role {
        name: "lizards-ingest",
        listener,
        router: http::router(Arc::clone(&statuses)),
        health,
        load: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    for (source, status) in sources.into_iter().zip(statuses.iter()) {
        let (_, symbols) = Followed::new(source.symbols().into_iter().collect());
        let (status, owned) = (Arc::clone(status), Arc::clone(&role.load));
        let supervised = Supervised { source, status, symbols, owned };
        tasks.spawn(supervised.run(context.clone()));
    }
    let (nats, stop) = (context.nats.clone(), shutdown.clone());
    tasks.spawn(async move {
        stop.run_until_cancelled(announce::announce(&nats, &symbols)).await;
    });
    tasks.spawn(watch(context.clone(), broker_check, statuses));

    let (served, archived, fetched) = tokio::join!(
        stop_on_error(&shutdown, async { Ok(context.serve(role).await?) }),
        stop_on_error(&shutdown, async {
            let archive = archive::run(config.archive, data_dir, context.clone(), archive_check);
            Ok(archive.await?)
        }),
        stop_on_error(&shutdown, async {
            while let Some(ended) = tasks.join_next().await {
                ended?;
            }
            Ok(())
        }),
    );
    served.and(archived).and(fetched)
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
async fn watch(context: Context, check: Check, statuses: Arc<[Arc<Status>]>) {
    let watching = async {
        loop {
            let answer = context.broker.state(Stream::Raw).await.map_err(|error| error.to_string());
            let unpublished = statuses.iter().find_map(|status| status.unpublished());
            match answer.and_then(|_| unpublished.map_or(Ok(()), Err)) {
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
