//! What a test stands on that is the same over both brokers.

use std::sync::Arc;

use nats::{Broker, JetStream, RabbitMq, RabbitMqConfig, topology::StreamsConfig};

use crate::{
    lizards::{Installation, Registry},
    servers::{NatsServer, VirtualHost, rabbitmq},
};

/// The servers, an installation that uses them, and its broker with the streams declared.
pub(crate) struct Ground {
    pub(crate) nats: NatsServer,
    /// Where the broker is not NATS.
    _rabbitmq: Option<VirtualHost>,
    pub(crate) installation: Installation,
    pub(crate) registry: Arc<Registry>,
    pub(crate) broker: Box<dyn Broker>,
}

impl Ground {
    pub(crate) async fn jetstream() -> Self {
        let nats = NatsServer::start().await;
        let registry = Arc::new(Registry::at(&nats.url()).await);
        let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
        broker.declare().await.expect("NATS has JetStream");
        let installation = Installation::at(&nats.url());
        Self { nats, _rabbitmq: None, installation, registry, broker: Box::new(broker) }
    }

    pub(crate) async fn rabbitmq() -> Self {
        let (nats, host) = (NatsServer::start().await, rabbitmq().await);
        let registry = Arc::new(Registry::at(&nats.url()).await);
        let config = RabbitMqConfig { url: host.url.clone() };
        let broker = RabbitMq::connect(&config, StreamsConfig::default()).await;
        let broker = broker.expect("RabbitMQ runs");
        broker.declare().await.expect("RabbitMQ has streams");
        let mut installation = Installation::at(&nats.url());
        installation.set("broker.kind", "rabbitmq");
        installation.set("broker.rabbitmq_url", &host.url);
        Self { nats, _rabbitmq: Some(host), installation, registry, broker: Box::new(broker) }
    }
}
