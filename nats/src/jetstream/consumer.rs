//! A session of a durable consumer: in order, from the first unacknowledged message.

use std::{collections::VecDeque, time::Duration};

use async_nats::{
    Subject,
    jetstream::{
        consumer::{
            AckPolicy, DeliverPolicy, PullConsumer,
            pull::{self, MessagesErrorKind},
        },
        context::ConsumerInfoErrorKind,
        stream,
    },
};
use async_trait::async_trait;
use futures_util::StreamExt;

use super::{delivered, unreachable};
use crate::{BrokerError, Consumer, Message, Nats, topology::Durable};

/// After how long without an acknowledgement the server delivers again. Whoever takes over does
/// not wait for this, and what a slow store still has is passed over; but where an acknowledgement
/// of an owner that stalled arrives late and hides its successor's, or one is lost with a
/// connection, this is when it shows.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// How many messages one pull asks for.
const PULL: u32 = 1_000;

/// An open session.
///
/// A durable consumer delivers what its last owner left unacknowledged again, but later, behind
/// messages that are new; and an owner that only stalls keeps asking for more. Neither is any good
/// for order, so opening a session makes the consumer anew, at the first unacknowledged message:
/// what asked for messages before is cut off. Each delivery then carries a number one higher than
/// the one before, from 1 on; a jump means that somebody else receives from it too.
pub(super) struct Session {
    client: async_nats::Client,
    messages: pull::Stream,
    name: &'static str,
    last_delivery: u64,
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
        let consumer = make_anew(stream, durable).await?;
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
            last_delivery: 0,
            last_sequence: 0,
            unacknowledged: VecDeque::new(),
        })
    }
}

/// Makes the consumer anew where it stands. Between its end and its new beginning a stand-in keeps
/// the place, so that a crash in between forgets nothing.
async fn make_anew(
    stream: &stream::Stream<()>,
    durable: &Durable,
) -> Result<PullConsumer, BrokerError> {
    let stand_in = format!("{}-place", durable.name);
    let floor = match acknowledged(stream, durable.name).await? {
        Some(floor) => {
            // Left by a crash, it may stand further back.
            if acknowledged(stream, &stand_in).await?.is_some() {
                stream.delete_consumer(&stand_in).await.map_err(unreachable)?;
            }
            create(stream, durable, &stand_in, floor).await?;
            stream.delete_consumer(durable.name).await.map_err(unreachable)?;
            floor
        }
        // Asked for after the consumer itself, and not before: whoever makes it anew at the same
        // time has its stand-in by now, or is done, and then ours is refused below.
        None => acknowledged(stream, &stand_in).await?.unwrap_or(0),
    };
    let consumer = create(stream, durable, durable.name, floor).await?;
    // It is there, unless this is the first time ever.
    let _ = stream.delete_consumer(&stand_in).await;
    Ok(consumer)
}

/// Up to where a consumer is acknowledged; nothing where there is no such consumer.
async fn acknowledged(stream: &stream::Stream<()>, name: &str) -> Result<Option<u64>, BrokerError> {
    match stream.consumer_info(name).await {
        Ok(info) => {
            let start = match info.config.deliver_policy {
                DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
                _ => 1,
            };
            Ok(Some(info.ack_floor.stream_sequence.max(start.saturating_sub(1))))
        }
        Err(fault) if fault.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
        Err(fault) => Err(unreachable(fault)),
    }
}

async fn create(
    stream: &stream::Stream<()>,
    durable: &Durable,
    name: &str,
    floor: u64,
) -> Result<PullConsumer, BrokerError> {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some(durable.description.to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: floor + 1 },
        // The fences are nobody's business.
        filter_subject: match durable.stream.fences() {
            Some(_) => durable.stream.subjects().to_owned(),
            None => String::new(),
        },
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        max_ack_pending: i64::from(durable.window),
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.map_err(unreachable)
}

#[async_trait]
impl Consumer for Session {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            let message = match self.messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(fault)) if fault.kind() == MessagesErrorKind::ConsumerDeleted => {
                    return Err(BrokerError::TakenOver(self.name));
                }
                Some(Err(fault)) => return Err(unreachable(fault)),
                None => return Err(unreachable("the consumer ended")),
            };
            let (message, delivery, reply) = delivered(message)?;
            if delivery != self.last_delivery + 1 {
                return Err(BrokerError::TakenOver(self.name));
            }
            self.last_delivery = delivery;
            if message.sequence <= self.last_sequence {
                if self.unacknowledged.front().is_some_and(|(first, _)| *first <= message.sequence)
                {
                    // It takes us long; we still have it.
                    continue;
                }
                // We have acknowledged it, and the server does not know: the acknowledgement was
                // lost with a connection. With a full window nothing new would ever come.
                return Err(unreachable("the server has not taken an acknowledgement"));
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
