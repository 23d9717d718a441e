//! Stores the normalised ticks and serves them: live over WebSockets, stored ones over HTTP.
//!
//! - [`store`]: the store, with a half that writes and a half that reads.
//! - `writer`: the worker that writes `TICKS` into the store; one of all instances does it.
//! - `hub`: the live fan-out. It encodes every tick once and hands it on by reference.
//! - `candles`: candles for WebSocket clients.
//! - `websocket`: `/ws`, the connections and their subscriptions; `events`: the same as
//!   Server-Sent Events.
//! - [`wire`]: WebSocket frames, read and written in memory.
//! - `alerts`: the alert rules over HTTP, and what fires for WebSocket clients.
//! - `access`: who may connect, and what for.
//! - `session`: `POST /session`; `query`: quotes, ticks, candles and symbols.

mod access;
mod alerts;
mod backlog;
mod candles;
mod config;
mod encoded;
mod events;
mod hub;
mod metrics;
mod query;
mod session;
pub mod store;
mod websocket;
pub mod wire;
mod writer;

use std::{path::Path, sync::Arc};

use futures_util::FutureExt;
use schemas::calendar::Calendars;
use service::{Context, Health, Protocols, Role, ServeError};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tracing::warn;

use access::Access;
use alerts::AlertHub;
use candles::CandleHub;
use hub::{Hub, Readers};
use store::StoreError;
use websocket::{Connections, Server};

pub use access::own_token;
pub use alerts::AlertLimits;
pub use config::{ApiKey, Config, ConfigError, WebSocketConfig};
pub use writer::WRITER_LEASE;

/// Its name in the registry and the services API.
pub const SERVICE: &str = "lizards-provide";

/// The role cannot be carried on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The role cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A part of it panicked.
    #[error("a part of the role ended unexpectedly: {0}")]
    Panic(#[from] tokio::task::JoinError),
}

/// Stores and serves until shutdown, then tells the clients to go elsewhere and drains.
/// `calendars` say which day a trade is of, `limits` which alert rules may be set.
pub async fn run(
    config: Config,
    calendars: Calendars,
    limits: AlertLimits,
    context: Context,
    listener: TcpListener,
    data_dir: &Path,
) -> Result<(), Error> {
    config.validate()?;
    metrics::describe();
    let reader = store::open_reader(&config.store, data_dir, calendars).await?;
    let (health, hub, connections) = (
        Health::default(),
        Arc::new(Hub::new(shards(), config.websocket.coalesce(), config.websocket.io_uring)),
        Connections::default(),
    );
    let (candles, alerts) = (Arc::new(CandleHub::default()), Arc::new(AlertHub::default()));
    let access = Arc::new(Access::new(&config.websocket));
    let server = Arc::new(Server {
        hub: Arc::clone(&hub),
        candles: Arc::clone(&candles),
        alerts: Arc::clone(&alerts),
        readers: Arc::new(Readers::new(Arc::clone(&context.broker))),
        access: Arc::clone(&access),
        config: config.websocket.clone(),
        connections: connections.clone(),
        shutdown: context.shutdown.clone(),
    });
    let router = websocket::router(Arc::clone(&server))
        .merge(events::router(server))
        .merge(alerts::router(Arc::new(context.nats.clone()), Arc::clone(&access), limits))
        .merge(session::router(access, &config.websocket.public_url))
        .merge(query::router(reader));
    let role = Role {
        name: SERVICE,
        listener,
        router,
        protocols: Protocols::Http1,
        endpoints: Vec::new(),
        health: health.clone(),
        load: connections.load(),
    };

    let mut parts = JoinSet::new();
    let writing =
        writer::run(config.store, data_dir.to_owned(), context.clone(), health.check("store"));
    parts.spawn(writing.map(|ended| ended.map_err(Error::from)));
    parts.spawn(Arc::clone(&hub).flush(context.shutdown.clone()).map(Ok));
    let (broker, shutdown) = (Arc::clone(&context.broker), context.shutdown.clone());
    let ticks = hub::follow_ticks(Arc::clone(&hub), broker, health.check("ticks"), shutdown);
    parts.spawn(ticks.map(Ok));
    let (nats, shutdown) = (context.nats.clone(), context.shutdown.clone());
    let symbols = hub::follow_announced(hub, nats, health.check("symbols"), shutdown);
    parts.spawn(symbols.map(Ok));
    let (broker, nats) = (Arc::clone(&context.broker), context.nats.clone());
    let alerts = alerts::follow(alerts, Arc::clone(&broker), context.shutdown.clone());
    parts.spawn(alerts.map(Ok));
    let candles = candles::follow(candles, broker, nats, context.shutdown.clone());
    parts.spawn(candles.map(Ok));
    parts.spawn(async move {
        context.serve(role).await?;
        // An upgraded connection is none of the HTTP server's any more.
        if timeout(context.shutdown_deadline, connections.closed()).await.is_err() {
            warn!("WebSocket connections were still open at the shutdown deadline");
        }
        Ok(())
    });
    while let Some(ended) = parts.join_next().await {
        ended??;
    }
    Ok(())
}

/// How many threads write to the clients: one for each processor.
fn shards() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
