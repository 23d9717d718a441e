//! Both brokers, with their streams declared.

use nats::{Broker, JetStream, RabbitMq, RabbitMqConfig, topology::StreamsConfig};

use crate::lizards::Registry;

pub(crate) async fn jetstream(registry: &Registry) -> Box<dyn Broker> {
    let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
    broker.declare().await.expect("NATS has JetStream");
    Box::new(broker)
}

pub(crate) async fn rabbit(url: &str) -> Box<dyn Broker> {
    let config = RabbitMqConfig { url: url.to_owned() };
    let broker = RabbitMq::connect(&config, StreamsConfig::default()).await.expect("RabbitMQ runs");
    broker.declare().await.expect("RabbitMQ has streams");
    Box::new(broker)
}
