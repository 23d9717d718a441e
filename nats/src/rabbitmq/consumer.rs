//! Durable consumers.
//!
//! RabbitMQ keeps no position in a stream for AMQP 0-9-1. So each acknowledged sequence is itself
//! a message of a small stream, `<stream>.<durable>.position`, whose newest is the position. It is
//! written through a gate, so a session that another has taken over cannot turn it back.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::{Confirmation, Connection};

use super::{
    cursor::{Cursor, From},
    declare,
    fence::{self, Gate, Target},
    opening::Opening,
    outbox::Outbox,
    scan,
    session::{answer, fault},
    takeover::Successor,
    wire::{self, Content},
};
use crate::{BrokerError, Consumer, Message, NewMessage, topology::Durable};

/// How many positions may wait for their confirm.
const POSITIONS_IN_FLIGHT: usize = 256;

/// A consuming session on a connection of its own, which ends with it.
pub(super) struct Session {
    name: &'static str,
    id: String,
    gate: String,
    cursor: Cursor,
    /// What was delivered and not acknowledged: the sequence and the delivery's tag.
    delivered: VecDeque<(u64, u64)>,
    /// How many that may be. RabbitMQ 3 sends the whole of what it stored together, even where
    /// the credit ends in the middle of it.
    window: usize,
    /// Everything up to it is acknowledged.
    position: u64,
    positions: Outbox<()>,
    successor: Successor,
    _connection: Connection,
}

impl Session {
    /// Takes the consumer over from whoever had it, and goes on after its position.
    pub(super) async fn open(
        connection: Connection,
        durable: &Durable,
    ) -> Result<Self, BrokerError> {
        let queue = format!("{}.{}.position", durable.stream, durable.name);
        let gate = format!("lizards.{}.{}.consumer", durable.stream, durable.name);
        let channel = answer(connection.create_channel()).await?;
        declare::notes(&channel, &queue).await?;

        let id = format!("{:016x}", rand::random::<u64>());
        let opening = Opening::begin(&connection, vec![gate.clone()]).await?;
        // Said before the fence is raised, it is heard before this session is open.
        let successor = Successor::announce(&connection, &gate, &id).await?;
        let target = Target::Queue(queue.clone());
        fence::raise(&opening, &[Gate { exchange: gate.clone(), target }], &id).await?;
        opening.end(&channel).await?;

        // Nobody else writes it from here on.
        let end = scan::end(&connection, &queue).await?;
        let position = match scan::newest_before(&connection, &queue, end, |_| true).await? {
            Some(newest) => decode(&newest)?,
            None => 0,
        };
        let window = u16::try_from(durable.window).unwrap_or(u16::MAX);
        let from = From::Offset(position);
        let cursor = Cursor::open(&connection, durable.stream.name(), from, window).await?;
        let mut session = Self {
            name: durable.name,
            id,
            gate,
            cursor,
            delivered: VecDeque::new(),
            window: usize::from(window),
            position,
            positions: Outbox::open(&connection).await?,
            successor,
            _connection: connection,
        };
        if position > 0 {
            // Written again, it stays clear of what the position stream drops as its oldest.
            session.store().await?;
            session.stored().await?;
        }
        Ok(session)
    }

    async fn store(&mut self) -> Result<(), BrokerError> {
        let message = NewMessage {
            subject: self.name.to_owned(),
            headers: Vec::new(),
            body: Bytes::from(self.position.to_string()),
        };
        let properties = wire::properties(&message, Some(&self.id))?;
        let (gate, key, body) = (&self.gate, &message.subject, message.body.into());
        self.positions.dispatch((), gate, key, body, properties).await
    }

    /// Waits until the oldest position in flight is stored. Cancel safe.
    async fn stored(&mut self) -> Result<(), BrokerError> {
        let ((), outcome) = self.positions.outcome().await;
        judge(self.name, outcome)
    }

    /// Remembers a delivery until it is acknowledged; a message that the position already covers,
    /// or a marker, gives its credit back at once.
    fn accept(&mut self, entry: wire::Entry) -> Result<Option<Message>, BrokerError> {
        match entry.content {
            Content::Message(message) if message.sequence > self.position => {
                self.delivered.push_back((message.sequence, entry.tag));
                Ok(Some(message))
            }
            _ => self.cursor.settle(entry.tag).map(|()| None),
        }
    }
}

fn judge(name: &'static str, outcome: lapin::Result<Confirmation>) -> Result<(), BrokerError> {
    let shut = fence::is_shut(&outcome);
    match outcome {
        Ok(Confirmation::Ack(None)) => Ok(()),
        _ if shut => Err(BrokerError::TakenOver(name)),
        Ok(_) => Err(BrokerError::Unreachable(format!("the position of {name} is not stored"))),
        Err(error) => Err(fault(&error)),
    }
}

fn decode(message: &Message) -> Result<u64, BrokerError> {
    let text = String::from_utf8_lossy(&message.body);
    text.parse()
        .map_err(|_| BrokerError::Refused(format!("the stored position {text:?} is no sequence")))
}

#[async_trait]
impl Consumer for Session {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            // A successor is heard before anything else is delivered.
            tokio::select! {
                biased;
                appeared = self.successor.appeared() => {
                    appeared?;
                    return Err(BrokerError::TakenOver(self.name));
                }
                ((), outcome) = self.positions.outcome() => judge(self.name, outcome)?,
                entry = self.cursor.deliver(), if self.delivered.len() < self.window => {
                    if let Some(message) = self.accept(entry?)? {
                        return Ok(message);
                    }
                }
            }
        }
    }

    /// Returns when the position has left for the broker; its confirm is awaited by a later call, at the latest when
    /// [`POSITIONS_IN_FLIGHT`] wait.
    async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError> {
        if sequence <= self.position {
            return Ok(());
        }
        while self.positions.len() >= POSITIONS_IN_FLIGHT {
            self.stored().await?;
        }
        self.position = sequence;
        self.store().await?;
        let covered = self.delivered.partition_point(|(delivered, _)| *delivered <= sequence);
        let settled = self.delivered.drain(..covered).next_back().map(|(_, tag)| tag);
        match settled {
            Some(tag) => self.cursor.settle_up_to(tag),
            None => Ok(()),
        }
    }
}
