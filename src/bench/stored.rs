//! What the server has stored.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nats::{Broker, Message, Start, topology::Stream};
use tokio::time::{Instant, sleep};

/// How long no message may arrive while some are on their way.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Waits until a stream has so many messages.
pub(super) async fn until(broker: &impl Broker, stream: Stream, count: u64) -> Result<()> {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let messages = broker.state(stream).await?.messages;
        if messages >= count {
            return Ok(());
        }
        if messages > seen {
            (seen, since) = (messages, Instant::now());
        }
        ensure!(since.elapsed() < STANDSTILL, "{stream} stays at {messages} of {count}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The bounds of a stream that is not empty.
pub(super) async fn first_and_last(
    broker: &impl Broker,
    stream: Stream,
) -> Result<(Message, Message)> {
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await?;
    let first = reader.next().await?;
    let last = broker.last(stream, stream.subjects()).await?;
    Ok((first, last.context("it has a message")?))
}
