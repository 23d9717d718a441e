//! JetStream behind the broker trait.

use std::time::Duration;

use nats::{Broker, JetStream, Nats, NatsConfig, topology::StreamsConfig};

use crate::{broker_conformance::conformance_tests, servers::NatsServer};

async fn start() -> (NatsServer, JetStream) {
    let server = NatsServer::start().await;
    let config = NatsConfig { url: server.url(), ..NatsConfig::default() };
    let nats = Nats::connect(&config, Duration::from_secs(5), 1).await.unwrap();
    let broker = JetStream::new(nats, StreamsConfig::default());
    broker.declare().await.unwrap();
    (server, broker)
}

conformance_tests!(start);
