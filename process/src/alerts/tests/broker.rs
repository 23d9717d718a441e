//! A broker and a bucket in memory, which fail at a given call.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, NewMessage, Publisher, Reader, Receipt,
    Start, StreamState,
    topology::{Durable, Stream},
};
use tokio::time::{Duration, sleep};

use crate::{
    store::{Store, StoreFault},
    testing::{Calls, Keys, answer},
};

#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) ticks: Vec<Message>,
    pub(crate) alerts: Vec<Message>,
    pub(crate) keys: Keys,
    /// The patterns of the readers of `TICKS` that were opened.
    pub(crate) asked: Vec<Vec<String>>,
    pub(crate) calls: Calls,
}

impl Fake {
    pub(crate) fn new(ticks: Vec<Message>) -> Self {
        Self(Arc::new(Mutex::new(State { ticks, ..State::default() })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn call<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, BrokerError> {
        let mut state = self.state();
        let failure = state.calls.next();
        answer(failure, || effect(&mut state))
    }
}

#[async_trait]
impl Store for Fake {
    async fn load(&self) -> Result<Vec<(String, Bytes, u64)>, StoreFault> {
        Ok(self.call(|state| state.keys.load())?)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreFault> {
        Ok(self.call(|state| state.keys.entries.get(key).map(|(value, _)| value.clone()))?)
    }

    async fn save(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, StoreFault> {
        Ok(self.call(|state| state.keys.save(key, value, revision))?)
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), StoreFault> {
        Ok(self.call(|state| {
            assert_eq!(
                state.keys.entries.remove(key).map(|(_, revision)| revision),
                Some(revision)
            );
        })?)
    }
}

#[async_trait]
impl Broker for Fake {
    async fn declare(&self) -> Result<(), BrokerError> {
        panic!("not the business of alerts")
    }

    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        assert_eq!((streams, exclusivity), (&[Stream::Alerts][..], Exclusivity::Exclusive));
        let expected = self.call(|state| state.alerts.len())?;
        Ok(Box::new(FakePublisher { broker: self.clone(), expected, in_flight: VecDeque::new() }))
    }

    async fn consumer(&self, _: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        panic!("not the business of alerts")
    }

    async fn reader(
        &self,
        stream: Stream,
        subjects: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        let Start::Sequence(next) = start else { panic!("they are read by sequence") };
        self.call(|state| {
            if stream == Stream::Ticks {
                state.asked.push(subjects.to_vec());
            }
        })?;
        let (broker, subjects) = (self.clone(), subjects.to_vec());
        Ok(Box::new(FakeReader { broker, stream, subjects, next }))
    }

    async fn last(&self, _: Stream, _: &str) -> Result<Option<Message>, BrokerError> {
        panic!("not the business of alerts")
    }

    async fn newest_per_subject(
        &self,
        _: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        panic!("not the business of alerts")
    }

    async fn state(&self, stream: Stream) -> Result<StreamState, BrokerError> {
        self.call(|state| {
            let messages = messages(state, stream).len() as u64;
            StreamState { first_sequence: 1, last_sequence: messages, messages }
        })
    }
}

fn messages(state: &State, stream: Stream) -> &[Message] {
    match stream {
        Stream::Ticks => &state.ticks,
        Stream::Alerts => &state.alerts,
        other => panic!("{other} is not the business of alerts"),
    }
}

struct FakePublisher {
    broker: Fake,
    expected: usize,
    /// `None`: it was fenced.
    in_flight: VecDeque<Option<Receipt>>,
}

#[async_trait]
impl Publisher for FakePublisher {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        let Self { expected, in_flight, .. } = self;
        self.broker.call(|state| {
            let sequence = state.alerts.len() as u64 + 1;
            if state.alerts.len() != *expected {
                return in_flight.push_back(None);
            }
            *expected += 1;
            state.alerts.push(Message {
                subject: message.subject,
                headers: message.headers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
                body: message.body,
                sequence,
                stored_at: Timestamp::UNIX_EPOCH,
            });
            in_flight.push_back(Some(Receipt { duplicate: false, sequence }));
        })
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        if self.in_flight.is_empty() {
            return pending().await;
        }
        let receipt = self.in_flight.pop_front().flatten();
        self.broker.call(|_| ())?;
        receipt.ok_or(BrokerError::Fenced(Stream::Alerts))
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

struct FakeReader {
    broker: Fake,
    stream: Stream,
    subjects: Vec<String>,
    next: u64,
}

impl FakeReader {
    /// The next message that is asked for, if it is there.
    fn find(&self) -> Option<Message> {
        let state = self.broker.state();
        let is_wanted = |it: &&Message| {
            it.sequence >= self.next
                && (self.subjects.is_empty() || self.subjects.contains(&it.subject))
        };
        messages(&state, self.stream).iter().find(is_wanted).cloned()
    }
}

#[async_trait]
impl Reader for FakeReader {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            if let Some(message) = self.find() {
                self.broker.call(|_| ())?;
                self.next = message.sequence + 1;
                return Ok(message);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
