//! A broker in memory that fails at a call of choice.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, NewMessage, Partitions, Publisher, Reader,
    Receipt, Start, StreamState,
    topology::{Durable, Stream},
};
use schemas::headers;
use tokio_util::sync::CancellationToken;

use super::super::{
    care::{Note, NoteStore, Noted, Notes},
    positions::{Position, PositionStore, Saved},
};
use crate::testing::{Calls, Failure, answer};

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

struct Unstored {
    message: NewMessage,
    guard: Guard,
}

/// What a message expects.
enum Guard {
    /// That the stream has so many messages.
    Messages(usize),
    /// That the fence of this partition was raised so often.
    Fence(u16, u64),
}

enum Answer {
    Stored(Receipt),
    Fenced(Stream),
}

fn stored(raw: &[super::Raw]) -> Vec<Message> {
    let message = |((subject, headers, body), sequence): (&super::Raw, u64)| Message {
        subject: subject.clone(),
        headers: headers.clone(),
        body: bytes::Bytes::copy_from_slice(body),
        sequence,
        stored_at: Timestamp::UNIX_EPOCH,
    };
    raw.iter().zip(1..).map(message).collect()
}

#[derive(Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

pub(super) struct State {
    raw: Vec<Message>,
    pub(super) ticks: Vec<Message>,
    pub(super) rejected: Vec<Message>,
    pub(super) acknowledged: u64,
    /// How often the fence of a partition was raised.
    fences: BTreeMap<u16, u64>,
    positions: BTreeMap<u16, (Position, u64)>,
    notes: BTreeMap<Option<u16>, (Note, u64)>,
    /// How many processes there were.
    processes: usize,
    stores: [Stores; 2],
    calls: Calls,
    /// Sent by a session that is gone.
    late: Vec<Unstored>,
    /// Cancelled when all there is was delivered to so many as are left.
    exhausted: CancellationToken,
    readers: usize,
}

impl Fake {
    /// `stores`: for ticks and for rejections.
    pub(super) fn new(
        raw: &[super::Raw],
        stores: [Stores; 2],
        failure: Option<(usize, Failure)>,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            raw: stored(raw),
            ticks: Vec::new(),
            rejected: Vec::new(),
            acknowledged: 0,
            fences: BTreeMap::new(),
            positions: BTreeMap::new(),
            notes: BTreeMap::new(),
            processes: 0,
            stores,
            calls: Calls { made: 0, failure },
            late: Vec::new(),
            exhausted: CancellationToken::new(),
            readers: 0,
        })))
    }

    /// Somebody deletes the stream of payloads, and it is made anew with these.
    pub(super) fn begin_anew(&self, raw: &[super::Raw]) {
        self.state().raw = stored(raw);
    }

    /// The notes of one more process.
    pub(super) fn notes(&self) -> Notes {
        let mut state = self.state();
        state.processes += 1;
        let me = format!("process {}", state.processes).into();
        Notes { store: Arc::new(self.clone()), me, max_tries: super::TRIES }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A token that is cancelled when all there is was delivered to so many.
    pub(super) fn until_exhausted(&self, readers: usize) -> CancellationToken {
        let mut state = self.state();
        state.readers = readers;
        state.exhausted = CancellationToken::new();
        state.exhausted.clone()
    }

    /// Counts a call, and does it unless it is the one that fails.
    fn call<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, BrokerError> {
        let mut state = self.state();
        let failure = state.calls.next();
        answer(failure, || effect(&mut state))
    }
}

impl State {
    pub(super) fn calls(&self) -> usize {
        self.calls.made
    }

    pub(super) fn is_done(&self) -> bool {
        self.acknowledged == self.raw.len() as u64
    }

    /// All of so many partitions are.
    pub(super) fn are_done(&self, count: u16) -> bool {
        let all = self.raw.len() as u64;
        (0..count).all(|partition| {
            self.positions.get(&partition).is_some_and(|(position, _)| position.raw == all)
        })
    }

    /// One more has seen all there is.
    fn exhaust(&mut self) {
        self.readers -= 1;
        if self.readers == 0 {
            self.exhausted.cancel();
        }
    }

    fn stream(&mut self, stream: Stream) -> &mut Vec<Message> {
        match stream {
            Stream::Raw => &mut self.raw,
            Stream::Ticks => &mut self.ticks,
            Stream::Rejected => &mut self.rejected,
            Stream::Candles | Stream::Alerts => panic!("not the business of the engine"),
        }
    }

    /// Stores as JetStream does, with an unlimited duplicate window: it checks the id first, and
    /// then that the stream is where the session expects it.
    fn store(&mut self, Unstored { message, guard }: Unstored) -> Answer {
        let which = Stream::of_subject(&message.subject).unwrap();
        let stream = self.stream(which);
        let headers = message.headers.into_iter().collect();
        let message = Message {
            subject: message.subject,
            headers,
            body: message.body,
            sequence: stream.len() as u64 + 1,
            stored_at: Timestamp::UNIX_EPOCH,
        };
        let id = message.header(headers::MESSAGE_ID).unwrap();
        if stream.iter().any(|stored| stored.header(headers::MESSAGE_ID) == Some(id)) {
            return Answer::Stored(Receipt { duplicate: true, sequence: 0 });
        }
        let is_right = match guard {
            Guard::Messages(expected) => stream.len() == expected,
            Guard::Fence(partition, raised) => self.fences[&partition] == raised,
        };
        if !is_right {
            return Answer::Fenced(which);
        }
        let stream = self.stream(which);
        stream.push(message);
        Answer::Stored(Receipt { duplicate: false, sequence: stream.len() as u64 })
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
        let fences = BTreeMap::new();
        let broker = self.clone();
        Ok(Box::new(FakePublisher { broker, expected, fences, in_flight: VecDeque::new() }))
    }

    fn partitions(&self, wanted: u16) -> Option<u16> {
        Some(wanted)
    }

    async fn partition_publisher(
        &self,
        streams: &[Stream],
        partitions: &Partitions,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        assert_eq!(streams, [Stream::Ticks, Stream::Rejected]);
        let fences = self.call(|state| {
            let raise = |partition: &u16| {
                let raised = state.fences.entry(*partition).or_default();
                *raised += 1;
                (*partition, *raised)
            };
            partitions.own.iter().map(raise).collect()
        })?;
        let broker = self.clone();
        Ok(Box::new(FakePublisher { broker, expected: [0; 2], fences, in_flight: VecDeque::new() }))
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
        let next = match start {
            Start::Sequence(next) => next,
            // All there is was stored at the same time.
            Start::Time(_) => 1,
        };
        self.call(|_| ())?;
        let subjects = subjects.to_vec();
        Ok(Box::new(FakeReader { broker: self.clone(), stream, subjects, next }))
    }

    async fn last(&self, stream: Stream, pattern: &str) -> Result<Option<Message>, BrokerError> {
        self.call(|state| {
            let mut newest_first = state.stream(stream).iter().rev();
            newest_first
                .find(|message| [stream.subjects(), &message.subject].contains(&pattern))
                .cloned()
        })
    }

    async fn newest_per_subject(
        &self,
        stream: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        let state = Broker::state(self, stream).await?;
        self.call(|broker| {
            let mut newest: Vec<Message> = Vec::new();
            for message in broker.stream(stream).iter() {
                newest.retain(|older| older.subject != message.subject);
                newest.push(message.clone());
            }
            (state, newest)
        })
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
    /// How often the fence of each of its partitions was raised, where it has any.
    fences: BTreeMap<u16, u64>,
    in_flight: VecDeque<Result<Answer, Unstored>>,
}

#[async_trait]
impl Publisher for FakePublisher {
    async fn send(&mut self, _: NewMessage) -> Result<(), BrokerError> {
        panic!("the engine names a partition")
    }

    async fn send_in(&mut self, partition: u16, message: NewMessage) -> Result<(), BrokerError> {
        let Self { expected, fences, in_flight, .. } = self;
        self.broker.call(|state| {
            for late in std::mem::take(&mut state.late) {
                state.store(late);
            }
            let place = usize::from(Stream::of_subject(&message.subject) == Some(Stream::Rejected));
            let guard = match fences.is_empty() {
                true => Guard::Messages(expected[place]),
                false => Guard::Fence(partition, fences[&partition]),
            };
            let message = Unstored { message, guard };
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
                state.exhaust();
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
    /// Only these, where there are any.
    subjects: Vec<String>,
    next: u64,
}

#[async_trait]
impl Reader for FakeReader {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        let Self { subjects, .. } = self;
        let is_wanted =
            |message: &&Message| subjects.is_empty() || subjects.contains(&message.subject);
        let next = usize::try_from(self.next - 1).unwrap();
        let message = self.broker.call(|state| {
            let message = state.stream(self.stream).iter().skip(next).find(is_wanted).cloned();
            if message.is_none() && self.stream == Stream::Raw {
                state.exhaust();
            }
            message
        })?;
        let Some(message) = message else {
            assert_eq!(self.stream, Stream::Raw, "of its output the engine reads what is there");
            return pending().await;
        };
        self.next = message.sequence + 1;
        Ok(message)
    }
}

#[async_trait]
impl NoteStore for Fake {
    async fn load_note(&self, partition: Option<u16>) -> Result<Noted, BrokerError> {
        self.call(|state| match state.notes.get(&partition) {
            Some((note, revision)) => (note.clone(), Some(*revision)),
            None => (Note::default(), None),
        })
    }

    async fn save_note(
        &self,
        partition: Option<u16>,
        note: &Note,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        self.call(|state| {
            let current = state.notes.get(&partition).map(|(_, revision)| *revision);
            if current != revision {
                return None;
            }
            let next = revision.unwrap_or_default() + 1;
            state.notes.insert(partition, (note.clone(), next));
            Some(next)
        })
    }
}

#[async_trait]
impl PositionStore for Fake {
    async fn load(&self, partition: u16) -> Result<Saved, BrokerError> {
        self.call(|state| match state.positions.get(&partition) {
            Some((position, revision)) => (*position, Some(*revision)),
            None => (Position::default(), None),
        })
    }

    async fn save(
        &self,
        partition: u16,
        position: Position,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        self.call(|state| {
            let current = state.positions.get(&partition).map(|(_, revision)| *revision);
            if current != revision {
                return None;
            }
            let next = revision.unwrap_or_default() + 1;
            state.positions.insert(partition, (position, next));
            Some(next)
        })
    }
}
