//! What the pipeline needs of a message broker, and no more.
//!
//! Everything here is ordered. A [`Publisher`] is a session: what the broker has stored of it is
//! always a prefix of what it was given. A [`Consumer`] delivers in stream order and is
//! acknowledged up to a sequence. Either dies at its first error and says so; whoever holds it
//! opens a new one and goes on from what is stored. That is how nothing is lost, doubled or
//! swapped, whichever process dies when.

mod headers;
mod message;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::topology::{Durable, Stream};

pub use headers::Headers;
pub use message::{Message, NewMessage};

/// A message broker with durable, replayable streams.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Creates the streams, or updates them to their configuration.
    async fn declare(&self) -> Result<(), BrokerError>;

    /// Opens a publishing session into the given streams.
    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError>;

    /// How many partitions writers may share streams by, each written by one of them: `wanted`, or
    /// fewer. Nothing where a stream has one exclusive writer at a time.
    fn partitions(&self, wanted: u16) -> Option<u16> {
        let _ = wanted;
        None
    }

    /// Opens a publishing session into these partitions of the given streams. Once it is open, no
    /// older session stores anything of them any more: it gets [`BrokerError::Fenced`]. Other
    /// sessions may write the other partitions meanwhile.
    async fn partition_publisher(
        &self,
        streams: &[Stream],
        partitions: &Partitions,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        let _ = (streams, partitions);
        Err(BrokerError::Refused("its streams have no partitions".to_owned()))
    }

    /// Takes over a durable consumer at its first unacknowledged message. Whoever had it before
    /// gets [`BrokerError::TakenOver`] at the latest with its next message.
    async fn consumer(&self, durable: &Durable) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Reads a stream from a point on, and then live. An empty `subjects` is all; otherwise full
    /// subjects or patterns with NATS wildcards.
    async fn reader(
        &self,
        stream: Stream,
        subjects: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError>;

    /// The newest message of the stream whose subject matches the pattern.
    async fn last(&self, stream: Stream, pattern: &str) -> Result<Option<Message>, BrokerError>;

    /// The newest message of each subject of the stream, in stream order, and the state of the
    /// stream they are the newest at: a reader from `last_sequence + 1` misses none.
    async fn newest_per_subject(
        &self,
        stream: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError>;

    /// The bounds of a stream.
    async fn state(&self, stream: Stream) -> Result<StreamState, BrokerError>;
}

/// An ordered publishing session.
#[async_trait]
pub trait Publisher: Send {
    /// Hands a message to the broker without waiting for its receipt. The caller bounds how many
    /// are in flight.
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError>;

    /// The same for a message of one of the session's partitions, which it is fenced with.
    async fn send_in(&mut self, partition: u16, message: NewMessage) -> Result<(), BrokerError> {
        let _ = partition;
        self.send(message).await
    }

    /// The receipt of the oldest message in flight: it is stored. Receipts come in the order of
    /// `send`. Pending for ever while nothing is in flight. Cancel safe.
    async fn confirmed(&mut self) -> Result<Receipt, BrokerError>;

    /// How many messages wait for their receipt.
    fn in_flight(&self) -> usize;
}

/// An ordered, durable consumer.
#[async_trait]
pub trait Consumer: Send {
    /// The next message of the stream. Cancel safe.
    async fn next(&mut self) -> Result<Message, BrokerError>;

    /// Acknowledges everything up to and including this sequence. It is on its way, and one that
    /// has not arrived when the next session is opened is lost: that one sees again what it was
    /// for.
    async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError>;
}

/// A reader of a stream, without acknowledgements.
#[async_trait]
pub trait Reader: Send {
    /// The next message, live at the end of the stream. Cancel safe.
    async fn next(&mut self) -> Result<Message, BrokerError>;
}

/// Whether others may write into a session's streams while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusivity {
    /// Others may write too.
    Shared,
    /// Once a newer exclusive session has stored a message, an older one stores none any more: it
    /// gets [`BrokerError::Fenced`]. While the older one is busy, so may the newer; whoever is
    /// meant to write holds a lease, opens again and wins when the other has stopped.
    Exclusive,
}

/// Some of the partitions of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions {
    /// Which, from 0 on.
    pub own: BTreeSet<u16>,
    /// How many there are.
    pub count: u16,
}

impl Partitions {
    /// All there are.
    pub fn are_all(&self) -> bool {
        self.own.len() == usize::from(self.count)
    }
}

/// Where a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this sequence, or the first one kept after it.
    Sequence(u64),
    /// At the first message stored at or after this time.
    Time(Timestamp),
}

/// A message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The stream dropped it, because it already has a message with that id.
    pub duplicate: bool,
    /// Its place in the stream; 0 where the broker does not say.
    pub sequence: u64,
}

/// The bounds of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The sequence of the oldest message kept.
    pub first_sequence: u64,
    /// The sequence of the newest message; 0 where there never was one.
    pub last_sequence: u64,
    /// How many messages are kept.
    pub messages: u64,
}

/// What goes wrong with a broker. Every error ends the session it came from.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The connection broke, or the broker does not answer: open anew, later.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    /// The broker answered with a refusal that will not pass by itself.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// Another session writes into an exclusively opened stream.
    #[error("another session has taken over the writing of {0}")]
    Fenced(Stream),
    /// Another session consumes from the durable consumer.
    #[error("another session has taken over the consumer {0}")]
    TakenOver(&'static str),
}
