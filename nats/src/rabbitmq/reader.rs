//! Readers without acknowledgements.

use async_trait::async_trait;
use lapin::Connection;

use super::{
    cursor::{Cursor, From, PREFETCH},
    wire::Content,
};
use crate::{
    BrokerError, Message, Reader, Start,
    topology::{Stream, is_match},
};

/// How many seconds before the time asked for the reading begins. RabbitMQ finds a time by the
/// clock of its own machine and in whole seconds; what is skipped after that goes by the clock of
/// the publisher.
const CLOCK_SKEW_SECS: i64 = 5;

/// A reader on a connection of its own.
pub(super) struct Reading {
    cursor: Cursor,
    patterns: Vec<String>,
    start: Start,
    started: bool,
    _connection: Connection,
}

impl Reading {
    /// Opens a reader of the subjects that match one of the patterns; of all, where there is none.
    pub(super) async fn open(
        connection: Connection,
        stream: Stream,
        patterns: &[String],
        start: Start,
    ) -> Result<Self, BrokerError> {
        let from = match start {
            Start::Sequence(sequence) => From::Offset(sequence.saturating_sub(1)),
            Start::Time(time) => {
                let second = time.as_second().saturating_sub(CLOCK_SKEW_SECS);
                From::Second(u64::try_from(second).unwrap_or_default())
            }
        };
        let cursor = Cursor::open(&connection, stream.name(), from, PREFETCH).await?;
        Ok(Self {
            cursor,
            patterns: patterns.to_vec(),
            start,
            started: false,
            _connection: connection,
        })
    }

    /// RabbitMQ begins with what it stored together with the asked; and at the end where it has
    /// not stored the asked yet.
    fn is_reached(&mut self, message: &Message) -> bool {
        self.started = self.started
            || match self.start {
                Start::Sequence(sequence) => message.sequence >= sequence,
                Start::Time(time) => message.stored_at >= time,
            };
        self.started
    }

    fn is_wanted(&self, message: &Message) -> bool {
        self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| is_match(pattern, &message.subject))
    }
}

#[async_trait]
impl Reader for Reading {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            if let Content::Message(message) = self.cursor.read().await?.content
                && self.is_reached(&message)
                && self.is_wanted(&message)
            {
                return Ok(message);
            }
        }
    }
}
