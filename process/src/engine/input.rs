//! Where a session's payloads come from, and which of their events are its own.

use nats::{BrokerError, Consumer, Message, Partitions, Reader};

use super::{
    partition::Home,
    positions::{Position, Progress},
};

/// The payloads, in stream order.
pub(super) enum Input {
    /// All of them are ours; the broker keeps how far they are done.
    Whole(Box<dyn Consumer>),
    /// All are read, and what belongs to others is passed over: a reader more costs the server a
    /// third of what a second stream with the partition in its subjects would.
    Shared(Box<dyn Reader>),
}

impl Input {
    /// The next payload. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Message, BrokerError> {
        match self {
            Self::Whole(consumer) => consumer.next().await,
            Self::Shared(reader) => reader.next().await,
        }
    }

    /// All payloads up to this sequence are done with.
    pub(super) async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError> {
        match self {
            Self::Whole(consumer) => consumer.acknowledge(sequence).await,
            Self::Shared(_) => Ok(()),
        }
    }
}

/// The partitions of a session that shares the stream, and how far they are.
pub(super) struct Share {
    pub(super) partitions: Partitions,
    pub(super) progress: Progress,
    /// The newest payload that earlier sessions have stored something of. Until it is passed, what
    /// of them is behind a position is not behind what this session stores.
    pub(super) recovered: u64,
    /// The newest messages of payloads that are done with, in `TICKS` and in `TICKS_REJECTED`.
    pub(super) stored: Position,
}

impl Share {
    /// Whether an event of a payload is for us to do: its partition is ours, and not that far yet.
    pub(super) fn is_due(&self, partition: u16, sequence: u64) -> bool {
        self.progress.of(partition).is_some_and(|position| position.raw < sequence)
    }

    /// Whether a payload may hold events that are for us to do.
    pub(super) fn may_hold(&self, home: Home, sequence: u64) -> bool {
        match home {
            Home::One(partition) => self.is_due(partition, sequence),
            Home::Many(_) => true,
        }
    }

    /// The position when everything up to a payload is done with.
    pub(super) fn at(&self, raw: u64) -> Position {
        match raw < self.recovered {
            true => Position { raw, ..self.progress.least() },
            false => Position { raw, ..self.stored },
        }
    }
}
