//! The streams, for commands that look into them and publish into them.

pub(crate) mod find;

use std::sync::Arc;

use anyhow::{Result, bail};
use nats::{Broker, Nats};

use crate::{config::Config, roles};

/// The streams, and the buckets beside them.
pub(crate) struct Streams {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) nats: Nats,
}

impl Streams {
    /// Connects to the configured NATS, or to the private one of a `lizards up` on this machine.
    pub(crate) async fn connect(config: &Config) -> Result<Self> {
        let mut config = config.clone();
        if config.nats.url.is_empty() {
            if config.nats.port == 0 {
                bail!("nats.url: with nats.port = 0 nobody knows where the private nats-server is");
            }
            config.nats.url = format!("nats://127.0.0.1:{}", config.nats.port);
        }
        let nats = roles::lease_connection(&config).await?;
        let broker = roles::broker(&config, &nats).await?;
        Ok(Self { broker, nats })
    }
}
