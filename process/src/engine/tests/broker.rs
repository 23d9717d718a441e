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

/// How many messages are in flight before the first receipt comes, if there are so many.
const DEPTH: usize = 6;

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

struct Unstored {
    message: NewMessage,
    /// How many messages the stream is expected to have.
    expected: usize,
}

enum Answer {
    Stored(Receipt),
    Fenced(Stream),
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
    /// Sent by a session that is gone.
    late: Vec<Unstored>,
    /// Cancelled when all there is was delivered.
    exhausted: CancellationToken,
}

impl Fake {
    /// `stores`: for ticks and for rejections.
    pub(super) fn new(
        raw: &[super::Raw],
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

    /// Stores as JetStream does, with an unlimited duplicate window: it checks the id first, and
    /// then that the stream is where the session expects it.
    fn store(&mut self, Unstored { message, expected }: Unstored) -> Answer {
        let which = Stream::of_subject(&message.subject).unwrap();
        let stream = self.stream(which);
        let headers = message.headers.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let message = Message {
            subject: message.subject,
            headers,
            body: message.body,
            sequence: stream.len() as u64 + 1,
            stored_at: Timestamp::UNIX_EPOCH,
        };
        let id = message.header(headers::MESSAGE_ID).unwrap();
        if stream.iter().any(|stored| stored.header(headers::MESSAGE_ID) == Some(id)) {
            return Answer::Stored(Receipt { duplicate: true });
        }
        if stream.len() != expected {
            return Answer::Fenced(which);
        }
        stream.push(message);
        Answer::Stored(Receipt { duplicate: false })
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
        let expected = self.call(|state| [state.ticks.len(), state.rejected.len()])?;
        Ok(Box::new(FakePublisher { broker: self.clone(), expected, in_flight: VecDeque::new() }))
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
    /// How many messages the two streams will have once all in flight is stored.
    expected: [usize; 2],
    in_flight: VecDeque<Result<Answer, Unstored>>,
}

#[async_trait]
impl Publisher for FakePublisher {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        let Self { expected, in_flight, .. } = self;
        self.broker.call(|state| {
            for late in std::mem::take(&mut state.late) {
                state.store(late);
            }
            let place = usize::from(Stream::of_subject(&message.subject) == Some(Stream::Rejected));
            let message = Unstored { message, expected: expected[place] };
            expected[place] += 1;
            in_flight.push_back(match state.stores[place] {
                Stores::AtOnce => Ok(state.store(message)),
                Stores::WithReceipt | Stores::Late => Err(message),
            });
        })
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        if self.in_flight.is_empty() {
            return pending().await;
        }
        if self.in_flight.len() < DEPTH {
            // Receipts take their time: more is sent meanwhile.
            tokio::task::yield_now().await;
        }
        let Self { in_flight, .. } = self;
        let answer = self.broker.call(|state| {
            let first = in_flight.pop_front().unwrap();
            first.unwrap_or_else(|message| state.store(message))
        })?;
        match answer {
            Answer::Stored(receipt) => Ok(receipt),
            Answer::Fenced(stream) => Err(BrokerError::Fenced(stream)),
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl Drop for FakePublisher {
    fn drop(&mut self) {
        let mut state = self.broker.state();
        let unstored = self.in_flight.drain(..).filter_map(Result::err);
        let late: Vec<_> =
            unstored.filter(|late| state.stores(&late.message) == Stores::Late).collect();
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
