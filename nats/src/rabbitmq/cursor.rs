//! Reading a stream queue in order, with bounded credit.

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::AMQPValue,
};

use super::{
    session::{answer, fault, short, table, text},
    wire::{self, Entry},
};
use crate::BrokerError;

/// How many deliveries a reader holds in memory, beside those that RabbitMQ 3 has stored together
/// with the last of them (at most 4,096).
pub(super) const PREFETCH: u16 = 1_024;

/// Where in a stream to begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// At the oldest kept.
    First,
    /// At this offset, or the first one kept after it.
    Offset(u64),
    /// At the entries stored together that came at or after this second since 1970.
    Second(u64),
    /// At the next one stored.
    Next,
}

impl From {
    fn argument(self) -> AMQPValue {
        match self {
            Self::First => text("first"),
            Self::Next => text("next"),
            Self::Offset(offset) => {
                AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
            }
            Self::Second(second) => AMQPValue::Timestamp(second),
        }
    }
}

/// A place in a stream that moves forward.
pub(super) struct Cursor {
    channel: Channel,
    deliveries: Consumer,
    prefetch: u16,
    unsettled: u16,
}

impl Cursor {
    /// Opens a cursor on a channel of its own.
    pub(super) async fn open(
        connection: &Connection,
        queue: &str,
        from: From,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let channel = answer(connection.create_channel()).await?;
        answer(channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let deliveries = answer(channel.basic_consume(
            short(queue)?,
            short("")?,
            BasicConsumeOptions::default(),
            table([("x-stream-offset", from.argument())])?,
        ))
        .await?;
        Ok(Self { channel, deliveries, prefetch, unsettled: 0 })
    }

    /// The channel, for what must come after the opening in the broker's order too.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The next entry, which keeps its part of the credit until it is settled. Cancel safe.
    pub(super) async fn deliver(&mut self) -> Result<Entry, BrokerError> {
        match self.deliveries.next().await {
            Some(Ok(delivery)) => wire::entry(delivery),
            Some(Err(error)) => Err(fault(&error)),
            None => Err(BrokerError::Unreachable("the broker cancelled the consumer".to_owned())),
        }
    }

    /// The next entry, with its credit given back in due time. Cancel safe.
    pub(super) async fn read(&mut self) -> Result<Entry, BrokerError> {
        let entry = self.deliver().await?;
        self.unsettled += 1;
        if self.unsettled >= self.prefetch / 2 {
            self.settle_up_to(entry.tag)?;
            self.unsettled = 0;
        }
        Ok(entry)
    }

    /// Gives back the credit of one delivery.
    pub(super) fn settle(&self, tag: u64) -> Result<(), BrokerError> {
        self.acknowledge(tag, false)
    }

    /// Gives back the credit of every delivery up to this one.
    pub(super) fn settle_up_to(&self, tag: u64) -> Result<(), BrokerError> {
        self.acknowledge(tag, true)
    }

    /// The first poll hands the frame to the connection; there is no answer to wait for.
    fn acknowledge(&self, tag: u64, multiple: bool) -> Result<(), BrokerError> {
        match self.channel.basic_ack(tag, BasicAckOptions { multiple }).now_or_never() {
            Some(Err(error)) => Err(fault(&error)),
            _ => Ok(()),
        }
    }
}
