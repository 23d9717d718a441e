//! A broker and a bucket in memory, which fail at a given call.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, NewMessage, Publisher, Reader, Receipt,
    Start, StreamState,
    topology::{Durable, Stream},
};
use schemas::headers;
use tokio::time::{Instant, sleep_until};

use crate::{
    store::{Store, StoreFault},
    testing::{Calls, Failure, Keys, answer},
};

/// When the broker stores what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stores {
    AtOnce,
    WithReceipt,
    /// With its receipt, and what is in flight when a session dies while the next one sends.
    Late,
}

#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) ticks: Vec<Message>,
    pub(super) candles: Vec<Message>,
    pub(super) acknowledged: u64,
    pub(super) keys: Keys,
    pub(super) calls: Calls,
    stores: Stores,
    late: Vec<Unstored>,
    /// A tick is there as long after this as its place in `delays`.
    begin: Instant,
    delays: Vec<Duration>,
}

impl Fake {
    /// Ticks, each with when it comes.
    pub(super) fn new(
        ticks: Vec<(Message, Duration)>,
        stores: Stores,
        failure: Option<(usize, Failure)>,
    ) -> Self {
        let (ticks, delays) = ticks.into_iter().unzip();
        Self(Arc::new(Mutex::new(State {
            ticks,
            candles: Vec::new(),
            acknowledged: 0,
            keys: Keys::default(),
            calls: Calls { made: 0, failure },
            stores,
            late: Vec::new(),
            begin: Instant::now(),
            delays,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn call<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, BrokerError> {
        let mut state = self.state();
        let failure = state.calls.next();
        answer(failure, || effect(&mut state))
    }
}

/// A message on its way, and what it expects the stream to end with: so many messages, and the one
/// before it of its session.
struct Unstored {
    message: NewMessage,
    expected: usize,
    after: Option<String>,
}

impl State {
    /// Stores as an exclusively opened stream does; nothing where the session is fenced.
    fn store(&mut self, Unstored { message, expected, after }: Unstored) -> Option<Receipt> {
        let last = self.candles.last().and_then(|last| last.header(headers::MESSAGE_ID));
        if self.candles.len() != expected || after.is_some_and(|id| last != Some(&id)) {
            return None;
        }
        self.candles.push(Message {
            subject: message.subject,
            headers: message.headers.into_iter().collect(),
            body: message.body,
            sequence: expected as u64 + 1,
            stored_at: Timestamp::UNIX_EPOCH,
        });
        Some(Receipt { duplicate: false, sequence: expected as u64 + 1 })
    }
}

#[async_trait]
impl Store for Fake {
    async fn load(&self) -> Result<Vec<(String, Bytes, u64)>, StoreFault> {
        Ok(self.call(|state| state.keys.load())?)
    }

    async fn save(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, StoreFault> {
        Ok(self.call(|state| state.keys.save(key, value, revision))?)
    }

    async fn get(&self, _: &str) -> Result<Option<Bytes>, StoreFault> {
        panic!("candles are loaded all at once")
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), StoreFault> {
        Ok(self.call(|state| {
            let deleted = state.keys.entries.remove(key);
            assert_eq!(deleted.map(|(_, revision)| revision), Some(revision));
        })?)
    }
}

#[async_trait]
impl Broker for Fake {
    async fn declare(&self) -> Result<(), BrokerError> {
        panic!("not the business of candles")
    }

    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        assert_eq!((streams, exclusivity), (&[Stream::Candles][..], Exclusivity::Exclusive));
        let expected = self.call(|state| state.candles.len())?;
        let (broker, in_flight) = (self.clone(), VecDeque::new());
        Ok(Box::new(FakePublisher { broker, expected, last_id: None, in_flight }))
    }

    async fn consumer(&self, durable: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        assert_eq!(durable.stream, Stream::Ticks);
        let delivered = self.call(|state| state.acknowledged)?;
        Ok(Box::new(FakeConsumer { broker: self.clone(), delivered }))
    }

    async fn reader(
        &self,
        stream: Stream,
        _: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        assert_eq!(stream, Stream::Candles);
        let Start::Sequence(next) = start else { panic!("candles are read by sequence") };
        self.call(|_| ())?;
        Ok(Box::new(FakeReader { broker: self.clone(), next }))
    }

    async fn last(&self, _: Stream, _: &str) -> Result<Option<Message>, BrokerError> {
        panic!("not the business of candles")
    }

    async fn newest_per_subject(
        &self,
        _: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        panic!("not the business of candles")
    }

    async fn state(&self, stream: Stream) -> Result<StreamState, BrokerError> {
        assert_eq!(stream, Stream::Candles);
        self.call(|state| {
            let messages = state.candles.len() as u64;
            StreamState { first_sequence: 1, last_sequence: messages, messages }
        })
    }
}

struct FakePublisher {
    broker: Fake,
    expected: usize,
    last_id: Option<String>,
    /// Stored or fenced already, or still to be stored.
    in_flight: VecDeque<Result<Option<Receipt>, Unstored>>,
}

#[async_trait]
impl Publisher for FakePublisher {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        let Self { expected, last_id, in_flight, .. } = self;
        self.broker.call(|state| {
            for late in std::mem::take(&mut state.late) {
                state.store(late);
            }
            let id = message.headers.iter().find(|(name, _)| *name == headers::MESSAGE_ID);
            let after = last_id.replace(id.unwrap().1.clone());
            let message = Unstored { message, expected: *expected, after };
            *expected += 1;
            in_flight.push_back(match state.stores {
                Stores::AtOnce => Ok(state.store(message)),
                Stores::WithReceipt | Stores::Late => Err(message),
            });
        })
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        if self.in_flight.is_empty() {
            return pending().await;
        }
        let Self { in_flight, .. } = self;
        let receipt = self.broker.call(|state| {
            let first = in_flight.pop_front().unwrap();
            first.unwrap_or_else(|message| state.store(message))
        })?;
        receipt.ok_or(BrokerError::Fenced(Stream::Candles))
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl Drop for FakePublisher {
    fn drop(&mut self) {
        let mut state = self.broker.state();
        if state.stores == Stores::Late {
            state.late.extend(self.in_flight.drain(..).filter_map(Result::err));
        }
    }
}

struct FakeConsumer {
    broker: Fake,
    delivered: u64,
}

#[async_trait]
impl Consumer for FakeConsumer {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        let next = usize::try_from(self.delivered).unwrap();
        let due = {
            let state = self.broker.state();
            state.delays.get(next).map(|delay| state.begin + *delay)
        };
        let Some(due) = due else { pending().await };
        sleep_until(due).await;
        let message = self.broker.call(|state| state.ticks[next].clone())?;
        self.delivered += 1;
        Ok(message)
    }

    async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError> {
        self.broker.call(|state| {
            assert!(sequence >= state.acknowledged, "an acknowledgement went backwards");
            state.acknowledged = sequence;
        })
    }
}

struct FakeReader {
    broker: Fake,
    next: u64,
}

#[async_trait]
impl Reader for FakeReader {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        let next = usize::try_from(self.next - 1).unwrap();
        let message = self.broker.call(|state| state.candles.get(next).cloned())?;
        self.next += 1;
        Ok(message.expect("candles are read that are there"))
    }
}
