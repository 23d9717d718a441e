//! A session of a durable consumer: in order, from the first unacknowledged message.

use std::{collections::VecDeque, time::Duration};

use async_nats::{
    Subject,
    jetstream::{
        consumer::{AckPolicy, pull},
        stream,
    },
};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::{delivered, unreachable};
use crate::{BrokerError, Consumer, Message, Nats, topology::Durable};

/// After how long without an acknowledgement the server delivers again. Whoever takes over resets
/// the consumer and need not wait for this; it only has to be longer than a slow store takes.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// How many messages one pull asks for.
const PULL: u32 = 1_000;

/// An open session.
///
/// Opening resets the consumer to its acknowledgement floor (ADR-60), so that what the owner
/// before left unacknowledged comes first and in order, instead of again and later. Each delivery
/// of the consumer carries a number one higher than the one before; a jump means that somebody
/// else receives from it too.
pub(super) struct Session {
    client: async_nats::Client,
    messages: pull::Stream,
    name: &'static str,
    last_delivery: Option<u64>,
    last_sequence: u64,
    /// Where each delivered and unacknowledged message is to be acknowledged, by sequence. At most
    /// the window of the consumer.
    unacknowledged: VecDeque<(u64, Subject)>,
}

impl Session {
    pub(super) async fn open(
        nats: &Nats,
        stream: &stream::Stream<()>,
        durable: &Durable,
    ) -> Result<Self, BrokerError> {
        let config = pull::Config {
            durable_name: Some(durable.name.to_owned()),
            description: Some(durable.description.to_owned()),
            ack_policy: AckPolicy::All,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::from(durable.window),
            ..pull::Config::default()
        };
        let mut consumer = stream.create_consumer(config).await.map_err(unreachable)?;
        consumer.reset(None).await.map_err(unreachable)?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL.min(durable.window) as usize)
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await
            .map_err(unreachable)?;
        Ok(Self {
            client: nats.client.clone(),
            messages,
            name: durable.name,
            last_delivery: None,
            last_sequence: 0,
            unacknowledged: VecDeque::new(),
        })
    }
}

#[async_trait]
impl Consumer for Session {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            let message = self
                .messages
                .next()
                .await
                .ok_or_else(|| unreachable("the consumer ended"))?
                .map_err(unreachable)?;
            let (message, delivery, reply) = delivered(message)?;
            if self.last_delivery.is_some_and(|last| delivery != last + 1) {
                return Err(BrokerError::TakenOver(self.name));
            }
            self.last_delivery = Some(delivery);
            if message.sequence <= self.last_sequence {
                // The acknowledgement took long; we still have it.
                continue;
            }
            self.last_sequence = message.sequence;
            self.unacknowledged.push_back((message.sequence, reply));
            return Ok(message);
        }
    }

    async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError> {
        let mut newest = None;
        while self.unacknowledged.front().is_some_and(|(first, _)| *first <= sequence) {
            newest = self.unacknowledged.pop_front();
        }
        match newest {
            Some((_, reply)) => {
                self.client.publish(reply, "+ACK".into()).await.map_err(unreachable)
            }
            None => Ok(()),
        }
    }
}
