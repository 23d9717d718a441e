//! A reader: an ordered push consumer (ADR-17) that dies where its client would make it anew.
//!
//! The server pushes every message without being asked; it numbers its deliveries, so a lost one
//! shows, and it asks now and then how far we are (flow control), so that a slow reader is not run
//! over. Whoever reads knows best where to go on after a break, so a break is simply an error.

use std::time::Duration;

use async_nats::{
    Client, StatusCode, Subject, Subscriber,
    jetstream::{
        consumer::{AckPolicy, DeliverPolicy, push},
        stream,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::unreachable;
use crate::{BrokerError, Headers, Message, Reader, Start};

/// How often the server says that it is there while there is nothing to send.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// After how long without a word the consumer is thought dead.
const SILENCE: Duration = Duration::from_secs(15);

/// After how long without a subscriber the server forgets the consumer.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// In a heartbeat: where a flow control request went unanswered, its subject.
const STALLED: &str = "Nats-Consumer-Stalled";

/// In a heartbeat: the number of the last delivery.
const LAST_DELIVERY: &str = "Nats-Last-Consumer";

/// An open reader.
pub(super) struct Session {
    client: Client,
    deliveries: Subscriber,
    last_delivery: u64,
    heard_at: Instant,
}

impl Session {
    pub(super) async fn open(
        client: &Client,
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
        let inbox = client.new_inbox();
        let deliveries = client.subscribe(inbox.clone()).await.map_err(unreachable)?;
        let config = push::Config {
            deliver_subject: inbox,
            deliver_policy,
            filter_subjects: subjects.to_vec(),
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            flow_control: true,
            idle_heartbeat: HEARTBEAT,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..push::Config::default()
        };
        stream.create_consumer(config).await.map_err(unreachable)?;
        Ok(Self { client: client.clone(), deliveries, last_delivery: 0, heard_at: Instant::now() })
    }

    /// What the server says beside the messages.
    async fn control(&mut self, message: &async_nats::Message) -> Result<(), BrokerError> {
        if message.status != Some(StatusCode::IDLE_HEARTBEAT) {
            let text = message.description.as_deref().unwrap_or("the consumer was deleted");
            return Err(unreachable(text));
        }
        let header = |name| message.headers.as_ref()?.get(name).map(|value| value.as_str());
        let asked = message.reply.clone().or_else(|| header(STALLED).map(Subject::from));
        if let Some(subject) = asked {
            self.client.publish(subject, Bytes::new()).await.map_err(unreachable)?;
        }
        // Heartbeats come in order with the messages.
        let delivered = header(LAST_DELIVERY).and_then(|number| number.parse().ok());
        if delivered.is_some_and(|delivered: u64| delivered != self.last_delivery) {
            return Err(unreachable("messages were lost on the way to a reader"));
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for Session {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            let next = timeout_at(self.heard_at + SILENCE, self.deliveries.next()).await;
            let next = next.map_err(|_| unreachable("nothing is heard of a reader's consumer"))?;
            let message = next.ok_or_else(|| unreachable("the reader ended"))?;
            self.heard_at = Instant::now();
            if message.status.is_some() {
                self.control(&message).await?;
                continue;
            }
            let reply = message.reply.as_deref().unwrap_or_default();
            let delivery = Delivery::parse(reply)
                .ok_or_else(|| unreachable(format!("a delivery from {reply:?}")))?;
            if delivery.number != self.last_delivery + 1 {
                return Err(unreachable("messages were lost on the way to a reader"));
            }
            self.last_delivery = delivery.number;
            return Ok(Message {
                subject: message.subject.into_string(),
                headers: Headers::new(message.headers),
                body: message.payload,
                sequence: delivery.sequence,
                stored_at: delivery.stored_at,
            });
        }
    }
}

/// What the reply subject of a delivered message tells (ADR-15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivery {
    sequence: u64,
    number: u64,
    stored_at: Timestamp,
}

impl Delivery {
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<number>.<time>.<pending>`, or the same
    /// with a domain and an account before the stream and perhaps more at the end.
    fn parse(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?;
        let before = if tokens.bytes().filter(|byte| *byte == b'.').count() == 6 { 3 } else { 5 };
        let mut tokens = tokens.split('.').skip(before);
        let sequence = tokens.next()?.parse().ok()?;
        let number = tokens.next()?.parse().ok()?;
        let nanoseconds: i64 = tokens.next()?.parse().ok()?;
        let stored_at = Timestamp::from_nanosecond(nanoseconds.into()).ok()?;
        Some(Self { sequence, number, stored_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_reply_are_read() {
        let stored_at = "2026-11-24T10:00:00.000000007Z".parse().unwrap();
        let expected = Some(Delivery { sequence: 42, number: 7, stored_at });
        let tail = format!("1.42.7.{}.3", stored_at.as_nanosecond());
        assert_eq!(Delivery::parse(&format!("$JS.ACK.TICKS.abc.{tail}")), expected);
        assert_eq!(Delivery::parse(&format!("$JS.ACK._.hash.TICKS.abc.{tail}")), expected);
        assert_eq!(Delivery::parse(&format!("$JS.ACK.hub.hash.TICKS.abc.{tail}.random")), expected);
        for reply in ["", "_INBOX.x", "$JS.ACK.TICKS.abc", "$JS.ACK.TICKS.abc.1.x.7.8.9"] {
            assert_eq!(Delivery::parse(reply), None, "{reply:?}");
        }
    }
}
