//! A broker in memory, with one stream.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, Publisher, Reader, Start, StreamState,
    topology::{Durable, Stream},
};
use tokio::sync::watch;

use crate::hub::frame::tests::message;

#[derive(Default)]
pub(crate) struct MemoryBroker {
    log: Mutex<Log>,
    /// How often something changed.
    changed: watch::Sender<u64>,
    pub(crate) readers: Mutex<Readers>,
}

/// How many readers there are.
#[derive(Default)]
pub(crate) struct Readers {
    pub(crate) open: usize,
    /// Ever.
    pub(crate) opened: usize,
}

#[derive(Default)]
struct Log {
    messages: Vec<Message>,
    last: u64,
    /// Readers of an earlier generation are dead.
    generation: u64,
    /// Messages are stored now, and not one a second in 2023.
    keeps_time: bool,
}

impl MemoryBroker {
    /// Stores a tick and returns its sequence.
    pub(crate) fn publish(&self, symbol: &str, price: &str) -> u64 {
        let sequence = self.store_unnoticed(symbol, price);
        self.changed.send_modify(|changes| *changes += 1);
        sequence
    }

    /// Stores a tick of which no reader hears before something else happens.
    pub(crate) fn store_unnoticed(&self, symbol: &str, price: &str) -> u64 {
        let mut log = self.log.lock().unwrap();
        log.last += 1;
        let sequence = log.last;
        let mut message = message(symbol, price, sequence);
        if log.keeps_time {
            message.stored_at = jiff::Timestamp::now();
        }
        log.messages.push(message);
        sequence
    }

    /// From now on messages are stored at the time it is.
    pub(crate) fn keep_time(&self) {
        self.log.lock().unwrap().keeps_time = true;
    }

    /// Every reader dies.
    pub(crate) fn break_readers(&self) {
        self.log.lock().unwrap().generation += 1;
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// The stream is deleted and made anew, unnoticed by its readers.
    pub(crate) fn make_anew(&self) {
        let mut log = self.log.lock().unwrap();
        log.messages.clear();
        log.last = 0;
    }

    /// Forgets what is older than a sequence.
    pub(crate) fn truncate(&self, first: u64) {
        self.log.lock().unwrap().messages.retain(|message| message.sequence >= first);
    }
}

impl Log {
    fn state(&self) -> StreamState {
        StreamState {
            first_sequence: self.messages.first().map_or(self.last + 1, |first| first.sequence),
            last_sequence: self.last,
            messages: self.messages.len() as u64,
        }
    }
}

/// Shared, because a reader outlives the call that opens it.
pub(crate) struct Shared(pub(crate) Arc<MemoryBroker>);

#[async_trait]
impl Broker for Shared {
    async fn declare(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publisher(
        &self,
        _: &[Stream],
        _: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        Err(BrokerError::Refused("no publishing here".into()))
    }

    async fn consumer(&self, _: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        Err(BrokerError::Refused("no consuming here".into()))
    }

    async fn reader(
        &self,
        _: Stream,
        subjects: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        tokio::task::yield_now().await;
        let log = self.0.log.lock().unwrap();
        let next = match start {
            Start::Sequence(sequence) => sequence,
            Start::Time(time) => log
                .messages
                .iter()
                .find(|message| message.stored_at >= time)
                .map_or(log.last + 1, |message| message.sequence),
        };
        let mut readers = self.0.readers.lock().unwrap();
        readers.open += 1;
        readers.opened += 1;
        Ok(Box::new(MemoryReader {
            broker: Arc::clone(&self.0),
            subjects: subjects.to_vec(),
            next,
            generation: log.generation,
            changed: self.0.changed.subscribe(),
        }))
    }

    async fn last(&self, _: Stream, _: &str) -> Result<Option<Message>, BrokerError> {
        Ok(self.0.log.lock().unwrap().messages.last().cloned())
    }

    async fn newest_per_subject(
        &self,
        _: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        let log = self.0.log.lock().unwrap();
        let is_newest = |(at, message): &(usize, &Message)| {
            !log.messages[at + 1..].iter().any(|later| later.subject == message.subject)
        };
        let newest = log.messages.iter().enumerate().filter(is_newest);
        Ok((log.state(), newest.map(|(_, message)| message.clone()).collect()))
    }

    async fn state(&self, _: Stream) -> Result<StreamState, BrokerError> {
        tokio::task::yield_now().await;
        Ok(self.0.log.lock().unwrap().state())
    }
}

struct MemoryReader {
    broker: Arc<MemoryBroker>,
    subjects: Vec<String>,
    next: u64,
    generation: u64,
    changed: watch::Receiver<u64>,
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        self.broker.readers.lock().unwrap().open -= 1;
    }
}

impl MemoryReader {
    fn try_next(&mut self) -> Result<Option<Message>, BrokerError> {
        let log = self.broker.log.lock().unwrap();
        if self.generation != log.generation {
            return Err(BrokerError::Unreachable("broken by the test".into()));
        }
        let first = log.messages.partition_point(|message| message.sequence < self.next);
        let wanted = |message: &&Message| {
            self.subjects.is_empty() || self.subjects.contains(&message.subject)
        };
        let found = log.messages[first..].iter().find(wanted).cloned();
        self.next = found.as_ref().map_or(self.next.max(log.last + 1), |it| it.sequence + 1);
        Ok(found)
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            self.changed.mark_unchanged();
            if let Some(message) = self.try_next()? {
                return Ok(message);
            }
            let _ = self.changed.changed().await;
        }
    }
}
