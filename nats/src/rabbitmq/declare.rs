//! The exchange and the streams.

use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tracing::warn;

use super::{
    ledger,
    session::{PRECONDITION_FAILED, answer, fault, reply_code, short, table, text},
    subject::binding_key,
};
use crate::{
    BrokerError,
    topology::{Stream, StreamsConfig},
};

/// The topic exchange that everything is published to; its routing keys are the subjects.
pub(super) const EXCHANGE: &str = "lizards";

const MIB: u64 = 1024 * 1024;

/// RabbitMQ drops a stream's oldest segment as a whole, and never its newest: with segments of
/// this part of the stream's size, it keeps at least seven eighths of what it may.
const SEGMENTS: u64 = 8;
/// RabbitMQ's own size of a segment, in bytes.
const LARGEST_SEGMENT: u64 = 500_000_000;

/// How large a stream of positions or markers may grow, and its segments, in bytes. Each position
/// or marker has about a hundred.
const NOTES_BYTES: u64 = 32 * MIB;
const NOTES_SEGMENT: u64 = 4 * MIB;

/// Declares the exchange, and each stream with its binding.
///
/// RabbitMQ changes no argument of a queue that is there: a stream keeps the limits it was made
/// with, and this says so in the log. An operator changes them by a policy (`rabbitmqctl
/// set_policy`), or deletes the queue.
pub(super) async fn all(
    connection: &Connection,
    config: &StreamsConfig,
) -> Result<(), BrokerError> {
    let channel = answer(connection.create_channel()).await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default();
    let exchange = channel.exchange_declare(short(EXCHANGE)?, ExchangeKind::Topic, durable, none);
    answer(exchange).await?;
    for stream in Stream::ALL {
        declare(connection, stream, config).await?;
        let bind = channel.queue_bind(
            short(stream.name())?,
            short(EXCHANGE)?,
            short(binding_key(stream.subjects()))?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        answer(bind).await?;
        notes(&channel, &ledger::queue(stream)).await?;
    }
    Ok(())
}

async fn declare(
    connection: &Connection,
    stream: Stream,
    config: &StreamsConfig,
) -> Result<(), BrokerError> {
    let (hours, mib) = config.limits(stream);
    let bytes = mib.saturating_mul(MIB);
    let mut arguments = limits(bytes, (bytes / SEGMENTS).clamp(MIB, LARGEST_SEGMENT))?;
    arguments.insert(short("x-max-age")?, text(format!("{hours}h")));
    arguments.insert(short("x-initial-cluster-size")?, integer(config.replicas as u64));
    // A refusal closes the channel it came on.
    let channel = answer(connection.create_channel()).await?;
    match channel.queue_declare(short(stream.name())?, durable(), arguments).await {
        Ok(_) => Ok(()),
        Err(error) if reply_code(&error) == Some(PRECONDITION_FAILED) && is_of_limits(&error) => {
            warn!(
                stream = stream.name(),
                fault = %error,
                "the stream keeps the limits it was made with; change them by a policy"
            );
            Ok(())
        }
        Err(error) => Err(fault(&error)),
    }
}

/// Declares a stream of positions or markers.
pub(super) async fn notes(channel: &Channel, queue: &str) -> Result<(), BrokerError> {
    let arguments = limits(NOTES_BYTES, NOTES_SEGMENT)?;
    answer(channel.queue_declare(short(queue)?, durable(), arguments)).await?;
    Ok(())
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

fn limits(bytes: u64, segment: u64) -> Result<FieldTable, BrokerError> {
    table([
        ("x-queue-type", text("stream")),
        ("x-max-length-bytes", integer(bytes)),
        ("x-stream-max-segment-size-bytes", integer(segment)),
    ])
}

fn integer(value: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Whether the refusal is about a limit, and not about the kind of queue.
fn is_of_limits(error: &lapin::Error) -> bool {
    let text = error.to_string();
    ["x-max-age", "x-max-length-bytes", "x-stream-max-segment-size-bytes", "x-initial-cluster-size"]
        .iter()
        .any(|argument| text.contains(argument))
}
