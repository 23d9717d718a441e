//! One session: from taking over the streams to the first error.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Exclusivity, Message, NewMessage, Publisher, Receipt, Start,
    topology::{PROCESS, Stream},
};
use schemas::{RawTick, Reason, Rejection, event_id, headers, subject};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Engine,
    input::{Input, Share},
    output::{self, Fate, Rejected},
    ownership::Owned,
    partition::Home,
    positions::{Position, Progress},
    recovery::Recovery,
};
use crate::validate::{Context, State};

/// What a session writes.
const OUTPUT: [Stream; 2] = [Stream::Ticks, Stream::Rejected];

/// How many messages may wait for their receipt.
const MAX_IN_FLIGHT: usize = 2_048;
/// How many payloads may be taken and not done with.
const MAX_PENDING: usize = 4_096;
/// An acknowledgement is a message too: one for so many payloads, or so much time.
const ACKNOWLEDGE_BATCH: usize = 256;
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(20);
/// A payload that is larger stays in `TICKS_RAW` alone when it is rejected: with the reason it might
/// be larger than what the broker takes. Those that were fetched are not.
const MAX_REJECTED_BYTES: usize = 512 * 1024;
/// So much is stored again of one payload, however many of its events are rejected.
const MAX_REPEATED_BYTES: usize = 1024 * 1024;

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
        let state = State::new(engine.remembered_ids);
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
        let outliers = engine.rules.rejects_outliers();
        let recovery = Recovery::open(&*broker, &first, &mut state, outliers).await?;
        let input = Input::Whole(consumer);
        let mut session = Self::begin(engine, publisher, input, None, recovery, state);
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
        let outliers = engine.rules.rejects_outliers();
        let recovery =
            Recovery::load(&*broker, &progress, partitions.count, &mut state, outliers).await?;
        let least = progress.least();
        let start = Start::Sequence(least.raw + 1);
        let input = Input::Shared(broker.reader(Stream::Raw, &[], start).await?);
        engine.check.pass();
        let recovered = recovery.newest_payload();
        let share = Share { partitions, progress, recovered, stored: least };
        Ok(Self::begin(engine, publisher, input, Some(share), recovery, state))
    }

    fn begin(
        engine: &'a mut Engine,
        publisher: Box<dyn Publisher>,
        input: Input,
        share: Option<Share>,
        recovery: Recovery,
        state: State,
    ) -> Self {
        let seen = share.as_ref().map_or(0, |share| share.stored.raw);
        Self {
            engine,
            publisher,
            input,
            share,
            recovery: Some(recovery),
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
            let has_room = self.ticks.is_empty()
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
                message = self.input.next(), if has_room => self.take(message?).await?,
                saved = saved(&mut self.share) => saved?,
            }
        }
    }

    /// Decodes and judges a payload, and makes the messages that are not stored yet.
    async fn take(&mut self, message: Message) -> Result<(), BrokerError> {
        self.seen = message.sequence;
        let home = match &self.share {
            None => Home::One(0),
            Some(share) => {
                let home = Home::of(&message.subject, share.partitions.count);
                if !share.may_hold(home, message.sequence) {
                    return Ok(());
                }
                home
            }
        };
        let mut fates = self.fates(message.sequence).await?;
        let symbol = subject::symbol_of_raw(&message.subject);
        let raw = RawTick::from_message(|name| message.header(name), symbol, message.body.clone());
        let mut pending = Pending {
            sequence: message.sequence,
            home: home.partition(),
            received_at: raw.as_ref().ok().map(|raw| raw.received_at),
            unconfirmed: 0,
            stored: (0, 0),
            ticks: 0,
            rejections: Vec::new(),
            events: 1,
        };
        match raw {
            Ok(raw) => self.judge(&message, &raw, home, &mut fates, &mut pending),
            Err(fault) => {
                let id = message.header(headers::MESSAGE_ID).map_or_else(
                    || event_id(&format!("{}:{}", subject::TICKS_RAW, message.sequence), 0),
                    |id| event_id(id, 0),
                );
                let rejection = Rejection::decode(Reason::Envelope, fault.to_string());
                self.reject_whole(&message, (&id, 0), home, &rejection, &mut fates, &mut pending);
            }
        }
        self.pending.push_back(pending);
        self.finish();
        Ok(())
    }

    fn judge(
        &mut self,
        message: &Message,
        raw: &RawTick,
        home: Home,
        fates: &mut HashMap<String, Fate>,
        pending: &mut Pending,
    ) {
        let mut events = std::mem::take(&mut self.engine.events);
        self.engine.decoder.decode(raw, &mut events);
        pending.events = events.len();
        let only = message.header(headers::RETRY_EVENT).and_then(|index| index.parse().ok());
        if let Some(only) = only.filter(|only| *only >= events.len()) {
            let detail = format!("the payload holds no event {only} any more");
            let (id, rejection) =
                (event_id(&raw.id, only), Rejection::decode(Reason::Malformed, detail));
            self.reject_whole(message, (&id, only), home, &rejection, fates, pending);
        }
        for (index, event) in events.drain(..).enumerate() {
            if only.is_some_and(|only| only != index) {
                continue;
            }
            let partition = match &self.share {
                None => home.partition(),
                Some(share) => {
                    let partition = home.of_event(&event, share.partitions.count);
                    if !share.is_due(partition, message.sequence) {
                        continue;
                    }
                    partition
                }
            };
            let place = (message.sequence, index);
            if !fates.is_empty()
                && let Some(fate) = fates.remove(&event_id(&raw.id, index))
            {
                match &fate {
                    Fate::Tick(tick) => self.state.tick(tick, place),
                    Fate::Rejection(Reason::Outlier, Some((symbol, price))) => {
                        self.state.rejected_outlier(symbol, *price, place);
                    }
                    Fate::Rejection(..) => {}
                }
                pending.found(&fate);
                continue;
            }
            let recovery = self.recovery.as_ref();
            let context = Context {
                raw,
                place,
                was_rejected: recovery.is_some_and(|known| known.was_rejected(partition, place)),
                is_repeat: self.engine.repeats.contains(&place),
            };
            let tick =
                event.and_then(|event| self.engine.rules.judge(event, &context, &mut self.state));
            match tick {
                Ok(tick) => {
                    let sent = Sent { payload: self.taken(), tick: Some(index), partition };
                    self.ticks.push_back((sent, output::tick(&tick)));
                    self.ticks_made += 1;
                    pending.unconfirmed += 1;
                    pending.ticks += 1;
                }
                Err(fault) => {
                    let id = event_id(&raw.id, index);
                    self.reject(message, (&id, index), partition, &fault, pending);
                }
            }
        }
        // Its room is used again.
        self.engine.events = events;
    }

    /// Rejects what is all there is of a payload, unless that is not ours to do, or done.
    fn reject_whole(
        &mut self,
        message: &Message,
        event: (&str, usize),
        home: Home,
        rejection: &Rejection,
        fates: &mut HashMap<String, Fate>,
        pending: &mut Pending,
    ) {
        let partition = home.partition();
        let is_due = self.share.as_ref().is_none_or(|own| own.is_due(partition, message.sequence));
        match fates.remove(event.0) {
            _ if !is_due => {}
            Some(fate) => pending.found(&fate),
            None => self.reject(message, event, partition, rejection, pending),
        }
    }

    fn reject(
        &mut self,
        message: &Message,
        (id, index): (&str, usize),
        partition: u16,
        rejection: &Rejection,
        pending: &mut Pending,
    ) {
        let size = message.body.len();
        let repeated = size.saturating_mul(pending.rejections.len());
        let event = Rejected {
            id,
            index,
            count: pending.events,
            with_body: size <= MAX_REJECTED_BYTES && repeated < MAX_REPEATED_BYTES,
        };
        self.rejections.push_back(Held {
            after: self.ticks_made,
            sent: Sent { payload: self.taken(), tick: None, partition },
            message: output::rejection(message, &event, rejection),
        });
        pending.unconfirmed += 1;
        pending.rejections.push(rejection.reason);
    }

    async fn fates(&mut self, sequence: u64) -> Result<HashMap<String, Fate>, BrokerError> {
        let Some(recovery) = &mut self.recovery else { return Ok(HashMap::new()) };
        let fates = recovery.fates(sequence).await?;
        if recovery.is_over(sequence) {
            self.recovery = None;
        }
        Ok(fates)
    }

    /// How many payloads were taken before the one that is being taken.
    fn taken(&self) -> u64 {
        self.finished + self.pending.len() as u64
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

    async fn acknowledge(&mut self) -> Result<(), BrokerError> {
        if self.unacknowledged > 0 {
            self.input.acknowledge(self.done).await?;
            self.unacknowledged = 0;
            self.engine.backoff.reset();
            self.engine.load.store(self.pending.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins to save how far our partitions are, when it is time.
    async fn save(&mut self) -> Result<(), BrokerError> {
        let reached = self.reached();
        let Some(share) = &mut self.share else { return Ok(()) };
        if !share.progress.is_due() || reached <= share.progress.least().raw {
            return Ok(());
        }
        if self.pending.is_empty() {
            // Nothing of ours is on its way: whatever comes will be behind what is there.
            let broker = &*self.engine.broker;
            let last = async |stream: Stream| -> Result<u64, BrokerError> {
                let newest = broker.last(stream, stream.subjects()).await?;
                Ok(newest.map_or(0, |newest| newest.sequence))
            };
            share.stored.ticks = share.stored.ticks.max(last(Stream::Ticks).await?);
            share.stored.rejected = share.stored.rejected.max(last(Stream::Rejected).await?);
        }
        share.progress.save(share.at(reached));
        Ok(())
    }

    /// The last payload up to which all are done with or passed over.
    fn reached(&self) -> u64 {
        self.pending.front().map_or(self.seen, |first| first.sequence - 1)
    }

    async fn end(mut self) -> Result<Ended, BrokerError> {
        let drained = self.drain().await;
        if self.repeated {
            // An exclusive session may not survive a dropped message: it has ended either way.
            return Ok(Ended::Repeated);
        }
        drained.map(|()| Ended::Stopped)
    }

    /// Waits for what is in flight, and acknowledges what is done with. The rest comes again.
    async fn drain(&mut self) -> Result<(), BrokerError> {
        self.ticks.clear();
        self.rejections.clear();
        let deadline = self.engine.drain_deadline;
        let receipts = async {
            while !self.in_flight.is_empty() {
                let receipt = self.publisher.confirmed().await?;
                self.settle(receipt);
            }
            Ok(())
        };
        match timeout(deadline, receipts).await {
            Ok(drained) => drained?,
            Err(_) => warn!(
                "receipts were still missing at the deadline; what they are for is looked up at the next start"
            ),
        }
        self.acknowledge().await?;
        let reached = self.reached();
        if let Some(share) = &mut self.share {
            let position = share.at(reached);
            share.progress.finish(position).await?;
        }
        Ok(())
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
