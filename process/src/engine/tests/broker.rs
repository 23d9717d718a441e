//! A broker in memory that fails at a call of choice.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, NewMessage, Publisher, Reader, Receipt,
    Start, StreamState,
    topology::{Durable, Stream},
};
use schemas::headers;
use tokio_util::sync::CancellationToken;

/// When a message of a session is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stores {
    /// As it is sent.
    AtOnce,
    /// As its receipt is asked for; without that, never.
    WithReceipt,
    /// As its receipt is asked for; without that, after the next session has read the streams.
    Late,
}

/// What a failing call does to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing: the request was lost.
    BeforeEffect,
    /// All it should: the answer was lost.
    AfterEffect,
}

#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

pub(super) struct State {
    raw: Vec<Message>,
    pub(super) ticks: Vec<Message>,
    pub(super) rejected: Vec<Message>,
    pub(super) acknowledged: u64,
    stores: [Stores; 2],
    calls: usize,
    failure: Option<(usize, Failure)>,
    session: usize,
    /// Sent by a session that is gone.
    late: Vec<NewMessage>,
    /// Cancelled when all there is was delivered.
    exhausted: CancellationToken,
}

impl Fake {
    /// `stores`: for ticks and for rejections.
    pub(super) fn new(
        raw: &[(String, Vec<(String, String)>, &[u8])],
        stores: [Stores; 2],
        failure: Option<(usize, Failure)>,
    ) -> Self {
        let raw = raw.iter().zip(1..).map(|((subject, headers, body), sequence)| Message {
            subject: subject.clone(),
            headers: headers.clone(),
            body: bytes::Bytes::copy_from_slice(body),
            sequence,
            stored_at: Timestamp::UNIX_EPOCH,
        });
        Self(Arc::new(Mutex::new(State {
            raw: raw.collect(),
            ticks: Vec::new(),
            rejected: Vec::new(),
            acknowledged: 0,
            stores,
            calls: 0,
            failure,
            session: 0,
            late: Vec::new(),
            exhausted: CancellationToken::new(),
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A token that is cancelled when all there is was delivered.
    pub(super) fn until_exhausted(&self) -> CancellationToken {
        self.state().exhausted = CancellationToken::new();
        self.state().exhausted.clone()
    }

    /// Counts a call, and does it unless it is the one that fails.
    fn call<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, BrokerError> {
        let mut state = self.state();
        let failure = state.failure.filter(|(call, _)| *call == state.calls);
        state.calls += 1;
        let lost = || BrokerError::Unreachable("a test".into());
        match failure {
            Some((_, Failure::BeforeEffect)) => Err(lost()),
            Some((_, Failure::AfterEffect)) => {
                effect(&mut state);
                Err(lost())
            }
            None => Ok(effect(&mut state)),
        }
    }
}

impl State {
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    pub(super) fn is_done(&self) -> bool {
        self.acknowledged == self.raw.len() as u64
    }

    fn stream(&mut self, stream: Stream) -> &mut Vec<Message> {
        match stream {
            Stream::Raw => &mut self.raw,
            Stream::Ticks => &mut self.ticks,
            Stream::Rejected => &mut self.rejected,
            Stream::Candles => panic!("nothing processes candles"),
        }
    }

    /// Stores as JetStream does, with an unlimited duplicate window; true for a duplicate.
    fn store(&mut self, message: NewMessage) -> bool {
        let stream = self.stream(Stream::of_subject(&message.subject).unwrap());
        let headers = message.headers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let message = Message {
            subject: message.subject,
            headers,
            body: message.body,
            sequence: stream.len() as u64 + 1,
            stored_at: Timestamp::UNIX_EPOCH,
        };
        let id = message.header(headers::MESSAGE_ID).unwrap();
        let duplicate = stream.iter().any(|stored| stored.header(headers::MESSAGE_ID) == Some(id));
        if !duplicate {
            stream.push(message);
        }
        duplicate
    }

    fn is_stored(&mut self, message: &NewMessage) -> bool {
        let id = message.headers.iter().find(|(name, _)| *name == headers::MESSAGE_ID).unwrap();
        let stream = self.stream(Stream::of_subject(&message.subject).unwrap());
        stream.iter().any(|stored| stored.header(headers::MESSAGE_ID) == Some(&id.1))
    }

    fn stores(&self, message: &NewMessage) -> Stores {
        self.stores[usize::from(Stream::of_subject(&message.subject) == Some(Stream::Rejected))]
    }
}

#[async_trait]
impl Broker for Fake {
    async fn declare(&self) -> Result<(), BrokerError> {
        panic!("not the engine's business")
    }

    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        assert_eq!(
            (streams, exclusivity),
            (&[Stream::Ticks, Stream::Rejected][..], Exclusivity::Exclusive)
        );
        let session = self.call(|state| {
            state.session += 1;
            state.session
        })?;
        Ok(Box::new(FakePublisher { broker: self.clone(), session, in_flight: VecDeque::new() }))
    }

    async fn consumer(&self, _: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        let next = self.call(|state| state.acknowledged)?;
        Ok(Box::new(FakeConsumer { broker: self.clone(), delivered: next }))
    }

    async fn reader(
        &self,
        stream: Stream,
        subjects: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        assert!(subjects.is_empty());
        let Start::Sequence(next) = start else { panic!("the engine starts at sequences") };
        self.call(|_| ())?;
        Ok(Box::new(FakeReader { broker: self.clone(), stream, next }))
    }

    async fn last(&self, stream: Stream, _: &str) -> Result<Option<Message>, BrokerError> {
        self.call(|state| state.stream(stream).last().cloned())
    }

    async fn newest_per_subject(
        &self,
        _: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        panic!("not the engine's business")
    }

    async fn state(&self, stream: Stream) -> Result<StreamState, BrokerError> {
        self.call(|state| {
            let messages = state.stream(stream).len() as u64;
            StreamState { first_sequence: 1, last_sequence: messages, messages }
        })
    }
}

struct FakePublisher {
    broker: Fake,
    session: usize,
    /// A message that is not stored yet, or its receipt.
    in_flight: VecDeque<Result<Receipt, NewMessage>>,
}

#[async_trait]
impl Publisher for FakePublisher {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        let Self { session, in_flight, .. } = self;
        let fenced = self.broker.call(|state| {
            // A server checks the id first, and then that the stream is where the session left it.
            let late = std::mem::take(&mut state.late);
            let intruded = !late.is_empty();
            for message in late {
                state.store(message);
            }
            let duplicate = state.is_stored(&message);
            if *session != state.session || intruded && !duplicate {
                return true;
            }
            in_flight.push_back(match state.stores(&message) {
                Stores::AtOnce => Ok(Receipt { duplicate: state.store(message) }),
                Stores::WithReceipt | Stores::Late => Err(message),
            });
            false
        })?;
        if fenced { Err(BrokerError::Fenced(Stream::Ticks)) } else { Ok(()) }
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        let Self { in_flight, .. } = self;
        let Some(first) = in_flight.front().cloned() else { pending().await };
        self.broker.call(|state| {
            in_flight.pop_front();
            first.unwrap_or_else(|message| Receipt { duplicate: state.store(message) })
        })
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl Drop for FakePublisher {
    fn drop(&mut self) {
        let mut state = self.broker.state();
        let unsent = self.in_flight.drain(..).filter_map(Result::err);
        let late: Vec<_> = unsent.filter(|m| state.stores(m) == Stores::Late).collect();
        state.late.extend(late);
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
        let message = self.broker.call(|state| {
            let message = state.raw.get(next).cloned();
            if message.is_none() {
                state.exhausted.cancel();
            }
            message
        })?;
        let Some(message) = message else { pending().await };
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
    stream: Stream,
    next: u64,
}

#[async_trait]
impl Reader for FakeReader {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        let next = usize::try_from(self.next - 1).unwrap();
        let message = self.broker.call(|state| state.stream(self.stream).get(next).cloned())?;
        self.next += 1;
        Ok(message.expect("the engine reads what is there"))
    }
}
