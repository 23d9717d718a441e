//! The only crate that knows a message broker.
//!
//! - [`Broker`]: what the pipeline needs of a queue, with JetStream and RabbitMQ behind it.
//! - [`topology`]: the streams, consumers and buckets, declared once, as data.
//! - [`Nats`]: the connection to NATS, which always carries the registry, the leases and the
//!   buckets, whatever carries the ticks.
//! - [`server`]: finds, starts, watches and stops a private nats-server.

mod broker;
mod bucket;
mod connection;
mod diagnosis;
mod jetstream;
mod lease;
mod live;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod registry;
pub mod server;
mod services;
pub mod topology;

pub use broker::{
    Broker, BrokerError, Consumer, Exclusivity, Headers, Message, NewMessage, Partitions,
    Publisher, Reader, Receipt, Start, StreamState,
};
pub use bucket::{Bucket, BucketError, Change};
pub use connection::{ConnectError, Nats, NatsConfig};
pub use jetstream::JetStream;
pub use lease::Lease;
pub use live::LiveMessage;
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{RabbitMq, RabbitMqConfig};
pub use registry::{Directory, Registration, register};
pub use services::{
    Announcement, Endpoint, Handler, RequestError, ServiceError, ServiceRequest, announce,
};
