//! One session: from taking over the streams to the first error.

mod careful;
mod done;
mod judging;
mod peeked;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Exclusivity, NewMessage, Publisher, Receipt, Start,
    topology::{PROCESS, Stream},
};
use schemas::Reason;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Engine,
    care::Care,
    input::{Input, Share},
    output::Fate,
    ownership::Owned,
    positions::{Position, Progress},
    recovery::Recovery,
};
use crate::validate::State;

/// What a session writes.
const OUTPUT: [Stream; 2] = [Stream::Ticks, Stream::Rejected];

/// How many messages may wait for their receipt.
const MAX_IN_FLIGHT: usize = 2_048;
/// How many payloads may be taken and not done with.
const MAX_PENDING: usize = 4_096;
/// An acknowledgement is a message too: one for so many payloads, or so much time.
const ACKNOWLEDGE_BATCH: usize = 256;
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(20);
/// Why a session ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was asked to.
    Stopped,
    /// The stream dropped a tick as a duplicate: what is stored must be read again to know whether
    /// it is our own of a session before, or a repeat older than the memory.
    Repeated,
}

pub(super) struct Session<'a> {
    engine: &'a mut Engine,
    publisher: Box<dyn Publisher>,
    input: Input,
    /// `None` where everything is ours.
    share: Option<Share>,
    /// `None` once no payload is left that an earlier session has worked on.
    recovery: Option<Recovery>,
    /// `None` where no process has ended before.
    care: Option<Care>,
    state: State,
    /// Payloads not done with, in order. Bounded by [`MAX_PENDING`].
    pending: VecDeque<Pending>,
    /// How many payloads were done with before the first of `pending`.
    finished: u64,
    /// Ticks to send. Bounded by the events of one payload: the next is taken when it is empty.
    ticks: VecDeque<(Sent, NewMessage)>,
    /// Rejections to send. Bounded by [`MAX_IN_FLIGHT`] and the events of one payload.
    rejections: VecDeque<Held>,
    /// How many ticks were put into `ticks` so far, and how many of them are stored.
    ticks_made: u64,
    ticks_stored: u64,
    /// What waits for its receipt, in order. Bounded by [`MAX_IN_FLIGHT`].
    in_flight: VecDeque<Sent>,
    /// The last payload taken or passed over, and the last one done with.
    seen: u64,
    done: u64,
    /// How many are done with since the last acknowledgement.
    unacknowledged: usize,
    repeated: bool,
}

/// A payload, and what is known of its events.
pub(super) struct Pending {
    pub(super) sequence: u64,
    /// The partition of the payload itself.
    pub(super) home: u16,
    /// `None` where its envelope does not say.
    pub(super) received_at: Option<Timestamp>,
    pub(super) ticks: u64,
    pub(super) rejections: Vec<Reason>,
    /// How many events it holds.
    events: usize,
    /// How many of its messages have no receipt yet.
    unconfirmed: usize,
    /// The newest of its messages in `TICKS` and in `TICKS_REJECTED`; 0 where there is none.
    stored: (u64, u64),
}

/// What a receipt is for.
struct Sent {
    /// The number of the payload in this session, from 0 on.
    payload: u64,
    /// The number of the event in the payload, from 0 on, where it is a tick.
    tick: Option<usize>,
    partition: u16,
}

/// A rejection that waits for the ticks before it: if the stream drops one of them as a duplicate,
/// that one's own rejection comes first.
struct Held {
    /// How many ticks must be stored.
    after: u64,
    sent: Sent,
    message: NewMessage,
}

impl<'a> Session<'a> {
    /// Takes over what it writes, and what it reads.
    pub(super) async fn open(engine: &'a mut Engine) -> Result<Self, BrokerError> {
        let state = State::new(engine.limits.remembered_ids);
        match engine.owned.clone() {
            Some(owned) => Self::open_share(engine, owned, state).await,
            None => Self::open_whole(engine, state).await,
        }
    }

    /// As the only writer. Waits for the first payload.
    async fn open_whole(engine: &'a mut Engine, mut state: State) -> Result<Self, BrokerError> {
        let broker: Arc<dyn Broker> = Arc::clone(&engine.broker);
        // In this order: from here on nobody else writes, so what is read later is all there is.
        let publisher = broker.publisher(&OUTPUT, Exclusivity::Exclusive).await?;
        let mut consumer = broker.consumer(&PROCESS).await?;
        engine.check.pass();
        let first = consumer.next().await?;
        let before = std::iter::once((0, first.sequence - 1));
        let care = match Care::begin(engine.notes.as_ref(), before, first.sequence).await? {
            Some(care) => Some(care.up_to(broker.state(Stream::Raw).await?.last_sequence)),
            None => None,
        };
        let outliers = engine.reading.rules.rejects_outliers();
        let recovery = Recovery::open(&*broker, &first, &mut state, outliers).await?;
        let input = Input::Whole(consumer);
        let mut session = Self::begin(engine, publisher, input, None, recovery, care, state);
        session.take(first).await?;
        Ok(session)
    }

    /// As the writer of some partitions.
    async fn open_share(
        engine: &'a mut Engine,
        Owned { partitions, positions }: Owned,
        mut state: State,
    ) -> Result<Self, BrokerError> {
        let broker: Arc<dyn Broker> = Arc::clone(&engine.broker);
        // In this order, too.
        let publisher = broker.partition_publisher(&OUTPUT, &partitions).await?;
        let own = partitions.own.iter().copied();
        let mut progress = Progress::load(positions, own, engine.save_every).await?;
        let newest_payload = broker.state(Stream::Raw).await?.last_sequence;
        let ticks = broker.state(Stream::Ticks).await?.last_sequence;
        let rejected = broker.state(Stream::Rejected).await?.last_sequence;
        progress.begin_anew_behind(newest_payload, Position { raw: 0, ticks, rejected });
        let care = Care::begin(engine.notes.as_ref(), progress.reached(), newest_payload).await?;
        let outliers = engine.reading.rules.rejects_outliers();
        let recovery =
            Recovery::load(&*broker, &progress, partitions.count, &mut state, outliers).await?;
        let least = progress.least();
        let start = Start::Sequence(least.raw + 1);
        let input = Input::Shared(broker.reader(Stream::Raw, &[], start).await?);
        engine.check.pass();
        let recovered = recovery.newest_payload();
        let share = Share { partitions, progress, recovered, stored: least };
        Ok(Self::begin(engine, publisher, input, Some(share), recovery, care, state))
    }

    fn begin(
        engine: &'a mut Engine,
        publisher: Box<dyn Publisher>,
        input: Input,
        share: Option<Share>,
        recovery: Recovery,
        care: Option<Care>,
        state: State,
    ) -> Self {
        let seen = share.as_ref().map_or(0, |share| share.stored.raw);
        Self {
            engine,
            publisher,
            input,
            share,
            recovery: Some(recovery),
            care,
            state,
            pending: VecDeque::new(),
            finished: 0,
            ticks: VecDeque::new(),
            rejections: VecDeque::new(),
            ticks_made: 0,
            ticks_stored: 0,
            in_flight: VecDeque::new(),
            seen,
            done: seen,
            unacknowledged: 0,
            repeated: false,
        }
    }

    /// Works until told to stop, or until the first error.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<Ended, BrokerError> {
        let mut acknowledge = interval(ACKNOWLEDGE_EVERY);
        acknowledge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        loop {
            self.send().await?;
            if self.unacknowledged >= ACKNOWLEDGE_BATCH {
                self.acknowledge().await?;
            }
            if self.repeated {
                return self.end().await;
            }
            let has_room = self.is_calm()
                && self.ticks.is_empty()
                && self.in_flight.len() + self.rejections.len() < MAX_IN_FLIGHT
                && self.pending.len() < MAX_PENDING;
            tokio::select! {
                biased;
                () = &mut stopped => return self.end().await,
                receipt = self.publisher.confirmed(), if !self.in_flight.is_empty() => {
                    self.settle(receipt?);
                }
                _ = acknowledge.tick(), if self.unacknowledged > 0 || self.share.is_some() => {
                    self.acknowledge().await?;
                    self.save().await?;
                }
                Some(question) = self.engine.questions.recv() => self.answer(question),
                message = self.input.next(), if has_room => self.take(message?).await?,
                saved = saved(&mut self.share) => saved?,
            }
        }
    }

    async fn send(&mut self) -> Result<(), BrokerError> {
        while self.in_flight.len() < MAX_IN_FLIGHT
            && let Some((sent, message)) = self.next_to_send()
        {
            self.publisher.send_in(sent.partition, message).await?;
            self.in_flight.push_back(sent);
        }
        Ok(())
    }

    fn next_to_send(&mut self) -> Option<(Sent, NewMessage)> {
        match self.rejections.front() {
            Some(held) if held.after <= self.ticks_stored => {
                self.rejections.pop_front().map(|held| (held.sent, held.message))
            }
            _ => self.ticks.pop_front(),
        }
    }

    /// The oldest message in flight is stored, or its stream says that it was stored before.
    fn settle(&mut self, receipt: Receipt) {
        let Some(sent) = self.in_flight.pop_front() else { return };
        let place = usize::try_from(sent.payload - self.finished).ok();
        let Some(payload) = place.and_then(|place| self.pending.get_mut(place)) else { return };
        if let Some(index) = sent.tick {
            if receipt.duplicate {
                self.engine.metrics.server_duplicate();
                self.engine.repeats.insert((payload.sequence, index));
                self.repeated = true;
                return;
            }
            self.ticks_stored += 1;
            payload.stored.0 = receipt.sequence;
        } else {
            payload.stored.1 = receipt.sequence;
        }
        payload.unconfirmed -= 1;
        self.finish();
    }

    /// Takes leave of the payloads that are done with.
    fn finish(&mut self) {
        while self.pending.front().is_some_and(|first| first.unconfirmed == 0)
            && let Some(payload) = self.pending.pop_front()
        {
            self.finished += 1;
            self.done = payload.sequence;
            self.unacknowledged += 1;
            if let Some(Share { stored, .. }) = &mut self.share {
                stored.ticks = stored.ticks.max(payload.stored.0);
                stored.rejected = stored.rejected.max(payload.stored.1);
            }
            self.engine.count(&payload);
        }
    }
}

/// What was being saved is saved. Pending while nothing is. Cancel safe.
async fn saved(share: &mut Option<Share>) -> Result<(), BrokerError> {
    match share {
        Some(share) => share.progress.saved().await,
        None => std::future::pending().await,
    }
}

impl Pending {
    /// Counts an event that an earlier session has stored.
    fn found(&mut self, fate: &Fate) {
        match fate {
            Fate::Tick(_) => self.ticks += 1,
            Fate::Rejection(reason, _) => self.rejections.push(*reason),
        }
    }
}
