//! A reader: an ordered consumer (ADR-17), which the client makes anew when it breaks.

use async_nats::jetstream::{
    consumer::{
        DeliverPolicy,
        pull::{Ordered, OrderedConfig},
    },
    stream,
};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::{delivered, unreachable};
use crate::{BrokerError, Message, Reader, Start};

/// An open reader.
pub(super) struct Session(Ordered);

impl Session {
    pub(super) async fn open(
        stream: &stream::Stream<()>,
        subjects: &[String],
        start: Start,
    ) -> Result<Self, BrokerError> {
        let deliver_policy = match start {
            Start::Sequence(sequence) => {
                DeliverPolicy::ByStartSequence { start_sequence: sequence.max(1) }
            }
            Start::Time(time) => DeliverPolicy::ByStartTime {
                start_time: async_nats::datetime::from_nanos(time.as_nanosecond())
                    .map_err(unreachable)?,
            },
        };
        let config = OrderedConfig {
            deliver_policy,
            filter_subjects: subjects.to_vec(),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(unreachable)?;
        Ok(Self(consumer.messages().await.map_err(unreachable)?))
    }
}

#[async_trait]
impl Reader for Session {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        let message = self.0.next().await.ok_or_else(|| unreachable("the reader ended"))?;
        Ok(delivered(message.map_err(unreachable)?)?.0)
    }
}
