//! The one door: routing, balancing, rate limits, caching, WebSocket tunnels and the page.
//!
//! A gateway is stateless: what it knows of the services behind it comes from the registry, so any
//! number of gateways can run beside each other.

mod balance;
mod cache;
mod config;
mod door;
mod forwarding;
mod frames;
mod limit;
mod metrics;
mod page;
mod registry;
mod routes;
mod services;
mod tunnel;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::AtomicU64};

use service::{Context, Health, Protocols, Role};
use tokio::net::TcpListener;
use tracing::warn;

pub use config::{CacheConfig, Config, ConfigError};

use crate::{door::Door, registry::LiveRegistry};

/// The gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the configuration has a value that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The registry cannot be followed.
    #[error(transparent)]
    Registry(#[from] nats::BucketError),
    /// It cannot be served.
    #[error(transparent)]
    Serve(#[from] service::ServeError),
}

/// Runs the gateway until shutdown; then open requests end, and open WebSockets are closed.
pub async fn run(config: Config, context: Context, listener: TcpListener) -> Result<(), Error> {
    config.validate()?;
    metrics::describe();
    let health = Health::default();
    let registry_followed = health.check("registry");
    let registry = LiveRegistry::follow(&context.nats).await?;
    registry_followed.pass();

    let door = Door::new(&config, Arc::new(registry), context.shutdown.clone());
    let role = Role {
        name: "lizards-gateway",
        listener,
        router: Arc::clone(&door).router(),
        protocols: Protocols::Http1,
        endpoints: Vec::new(),
        health,
        load: Arc::new(AtomicU64::new(0)),
    };
    let sweep = async {
        match &door.limiter {
            Some(limiter) => limiter.sweep().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        served = context.serve(role) => served?,
        () = sweep => {}
    }
    if tokio::time::timeout(context.shutdown_deadline, door.tunnels.drained()).await.is_err() {
        warn!("WebSockets were still open at the shutdown deadline");
    }
    Ok(())
}
