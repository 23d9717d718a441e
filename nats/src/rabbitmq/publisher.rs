//! Publishing sessions.

use async_trait::async_trait;
use lapin::{Confirmation, Connection, options::QueueDeclareOptions, types::FieldTable};

use super::{
    declare::EXCHANGE,
    fence::{self, Gate, Target},
    opening::Opening,
    outbox::Outbox,
    session::{answer, fault, short},
    wire,
};
use crate::{BrokerError, Exclusivity, NewMessage, Publisher, Receipt, topology::Stream};

/// A publishing session on a connection of its own, which ends with it.
pub(super) struct Session {
    outbox: Outbox<Stream>,
    streams: Vec<Stream>,
    /// The id that the gates let through, where the session is exclusive.
    id: Option<String>,
    /// The channel lives as long as its connection.
    _connection: Connection,
}

impl Session {
    /// Opens a session; an exclusive one shuts out every exclusive one before it.
    pub(super) async fn open(
        connection: Connection,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Self, BrokerError> {
        let channel = answer(connection.create_channel()).await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        for stream in streams {
            let declare =
                channel.queue_declare(short(stream.name())?, passive, FieldTable::default());
            answer(declare).await?;
        }
        let id = match exclusivity {
            Exclusivity::Shared => None,
            Exclusivity::Exclusive => {
                let names = streams.iter().copied().map(gate).collect();
                let opening = Opening::begin(&connection, names).await?;
                let id = format!("{:016x}", rand::random::<u64>());
                let gates: Vec<_> = streams
                    .iter()
                    .map(|stream| Gate {
                        exchange: gate(*stream),
                        target: Target::Exchange(EXCHANGE),
                    })
                    .collect();
                fence::raise(&opening, &gates, &id).await?;
                opening.end(&channel).await?;
                Some(id)
            }
        };
        let outbox = Outbox::open(&connection).await?;
        Ok(Self { outbox, streams: streams.to_vec(), id, _connection: connection })
    }

    fn judge(
        &self,
        stream: Stream,
        outcome: lapin::Result<Confirmation>,
    ) -> Result<Receipt, BrokerError> {
        let shut = fence::is_shut(&outcome);
        match outcome {
            Ok(Confirmation::Ack(None)) => Ok(Receipt { duplicate: false, sequence: 0 }),
            _ if shut && self.id.is_some() => Err(BrokerError::Fenced(stream)),
            Ok(Confirmation::Nack(None)) => {
                Err(BrokerError::Unreachable(format!("the broker could not store into {stream}")))
            }
            Ok(_) => Err(BrokerError::Refused(format!("nothing is bound for {stream}"))),
            Err(error) => Err(fault(&error)),
        }
    }
}

/// The gate of a stream's exclusive writer.
fn gate(stream: Stream) -> String {
    format!("{EXCHANGE}.{stream}.writer")
}

#[async_trait]
impl Publisher for Session {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        let stream = Stream::of_subject(&message.subject)
            .filter(|stream| self.streams.contains(stream))
            .ok_or_else(|| {
                BrokerError::Refused(format!(
                    "the subject {:?} belongs to no stream of this session",
                    message.subject
                ))
            })?;
        let properties = wire::properties(&message, self.id.as_deref())?;
        let exchange = if self.id.is_some() { gate(stream) } else { EXCHANGE.to_owned() };
        self.outbox.send(stream, &exchange, &message.subject, message.body.into(), properties)
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        let (stream, outcome) = self.outbox.outcome().await;
        self.judge(stream, outcome)
    }

    fn in_flight(&self) -> usize {
        self.outbox.len()
    }
}
