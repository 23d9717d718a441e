//! What earlier sessions have stored already, read back from the streams.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use nats::{Broker, BrokerError, Message, Reader, Start, topology::Stream};
use schemas::Reason;

use super::{
    output::{Fate, Stored},
    partition,
    positions::{Position, Progress},
};
use crate::validate::{CONFIRMED_WITHIN, Place, State};

/// How long a stored message may keep us waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the events of payloads that are read again.
pub(super) struct Recovery {
    known: Known,
    /// The newest event of each partition that is a tick.
    newest_ticks: BTreeMap<u16, Place>,
}

enum Known {
    /// One writer: the stored events are walked along, payload by payload, while their payloads are
    /// read again. It holds the events of one payload at a time, however much there is to walk along.
    Walking { ticks: Box<Walk>, rejections: Box<Walk> },
    /// Several writers: their events stand mixed in the streams, so what is behind the positions is
    /// read beforehand. That is what all of them have stored since these were saved.
    Loaded(BTreeMap<u64, HashMap<usize, Fate>>),
}

impl Recovery {
    /// Finds in both streams where the events of the raw message `first` and later ones begin, and
    /// fills the state with what came before. `outliers` says whether rejected ones are a part of
    /// that.
    pub(super) async fn open(
        broker: &dyn Broker,
        first: &Message,
        state: &mut State,
        outliers: bool,
    ) -> Result<Self, BrokerError> {
        let (first, first_stored_at) = (first.sequence, first.stored_at);
        let ticks = Bounds::find(broker, Stream::Ticks, first).await?;
        let remembered = ticks.before(state.capacity());
        newest_ticks(broker, *remembered.start(), state, |_| true).await?;
        let mut walk = Walk::open(broker, Stream::Ticks, remembered).await?;
        while let Some(stored) = walk.next().await? {
            remember(state, &stored);
        }
        let rejections = Bounds::find(broker, Stream::Rejected, first).await?;
        if outliers {
            let from = first.saturating_sub(CONFIRMED_WITHIN);
            let before = Bounds::find(broker, Stream::Rejected, from).await?;
            let range = before.boundary..=rejections.boundary - 1;
            let mut walk = Walk::open(broker, Stream::Rejected, range).await?;
            while let Some(stored) = walk.next().await? {
                remember(state, &stored);
            }
        }
        // A tick that was there before the payload is not of this stream of payloads, but of one
        // that was deleted.
        let newest = ticks.newest.filter(|_| ticks.stored_at >= first_stored_at);
        Ok(Self {
            known: Known::Walking {
                ticks: Box::new(Walk::open(broker, Stream::Ticks, ticks.after()).await?),
                rejections: Box::new(
                    Walk::open(broker, Stream::Rejected, rejections.after()).await?,
                ),
            },
            newest_ticks: newest.into_iter().map(|place| (0, place)).collect(),
        })
    }

    /// Reads what is stored behind the positions of `count` partitions, and fills the state with
    /// the newest ticks before them, and as many rejected `outliers`.
    pub(super) async fn load(
        broker: &dyn Broker,
        progress: &Progress,
        count: u16,
        state: &mut State,
        outliers: bool,
    ) -> Result<Self, BrokerError> {
        let Position { raw, ticks, rejected } = progress.least();
        let is_ours = |partition: u16| progress.of(partition).is_some();
        let is_done = |partition: u16, stored: &Stored| {
            progress.of(partition).is_some_and(|position| stored.place.0 <= position.raw)
        };
        let mut fates = BTreeMap::<u64, HashMap<usize, Fate>>::new();
        let mut add = |stored: Stored| {
            if stored.place.0 > raw {
                let of_payload = fates.entry(stored.place.0).or_default();
                of_payload.insert(stored.place.1, stored.fate);
            }
        };
        let remembered = u64::try_from(state.capacity()).unwrap_or(u64::MAX);
        let behind = ticks.saturating_sub(remembered);
        newest_ticks(broker, behind + 1, state, |stored| {
            is_ours(partition::of_subject(&stored.subject, count))
        })
        .await?;
        let mut newest = BTreeMap::new();
        let mut walk = Walk::behind(broker, Stream::Ticks, behind).await?;
        while let Some(tick) = walk.next().await? {
            let partition = partition::of_subject(&tick.subject, count);
            let is_before = walk.position <= ticks;
            if is_ours(partition) && (is_before || is_done(partition, &tick)) {
                remember(state, &tick);
            }
            if !is_before {
                newest.insert(partition, tick.place);
                add(tick);
            }
        }
        let remembered = if outliers { CONFIRMED_WITHIN } else { 0 };
        let behind = rejected.saturating_sub(remembered);
        let mut walk = Walk::behind(broker, Stream::Rejected, behind).await?;
        while let Some(rejection) = walk.next().await? {
            if let Fate::Rejection(_, Some((symbol, _))) = &rejection.fate
                && is_done(partition::of_symbol(symbol, count), &rejection)
            {
                remember(state, &rejection);
            }
            if walk.position > rejected {
                add(rejection);
            }
        }
        Ok(Self { known: Known::Loaded(fates), newest_ticks: newest })
    }

    /// Whether an event that is not stored as a tick was rejected: later ones of its partition are
    /// ticks.
    pub(super) fn was_rejected(&self, partition: u16, place: Place) -> bool {
        self.newest_ticks.get(&partition).is_some_and(|newest| place < *newest)
    }

    /// What became of the events of this raw message, by their number in there. Its sequence grows from call to
    /// call.
    pub(super) async fn fates(
        &mut self,
        raw_sequence: u64,
    ) -> Result<HashMap<usize, Fate>, BrokerError> {
        let (ticks, rejections) = match &mut self.known {
            Known::Walking { ticks, rejections } => (ticks, rejections),
            Known::Loaded(loaded) => {
                let mut rest = loaded.split_off(&raw_sequence);
                let fates = rest.remove(&raw_sequence).unwrap_or_default();
                *loaded = rest;
                return Ok(fates);
            }
        };
        let mut fates = HashMap::new();
        for walk in [ticks, rejections] {
            while let Some(stored) = walk.next_up_to(raw_sequence).await? {
                if stored.place.0 == raw_sequence {
                    fates.insert(stored.place.1, stored.fate);
                }
            }
        }
        Ok(fates)
    }

    /// The newest payload of which something is known to be stored; 0 where that is not told.
    pub(super) fn newest_payload(&self) -> u64 {
        match &self.known {
            Known::Walking { .. } => 0,
            Known::Loaded(fates) => fates.last_key_value().map_or(0, |(sequence, _)| *sequence),
        }
    }

    /// After this raw message, or even before it, nothing of use is left.
    pub(super) fn is_over(&self, raw_sequence: u64) -> bool {
        let nothing_known = match &self.known {
            Known::Walking { ticks, rejections } => ticks.is_over() && rejections.is_over(),
            Known::Loaded(fates) => fates.is_empty(),
        };
        nothing_known && self.newest_ticks.values().all(|newest| newest.0 < raw_sequence)
    }
}

/// The state remembers what is stored.
fn remember(state: &mut State, stored: &Stored) {
    match &stored.fate {
        Fate::Tick(tick) => state.tick(tick, stored.place),
        Fate::Rejection(Reason::Outlier, Some((symbol, price))) => {
            state.rejected_outlier(symbol, *price, stored.place);
        }
        Fate::Rejection(..) => {}
    }
}

/// Fills the state with the newest ticks of the symbols that have none from there on, if they are
/// `wanted`.
async fn newest_ticks(
    broker: &dyn Broker,
    before: u64,
    state: &mut State,
    wanted: impl Fn(&Stored) -> bool,
) -> Result<(), BrokerError> {
    let (_, newest) = broker.newest_per_subject(Stream::Ticks).await?;
    for message in newest.iter().rev().filter(|message| message.sequence < before) {
        if let Some(stored) = Stored::read(message)
            && wanted(&stored)
            && let Fate::Tick(tick) = &stored.fate
        {
            state.newest(tick, stored.place);
        }
    }
    Ok(())
}

/// Where in a stream the events of a raw message and later ones begin.
struct Bounds {
    /// The first sequence kept.
    first: u64,
    /// The first sequence of them; one after `last` where there are none.
    boundary: u64,
    /// The newest sequence.
    last: u64,
    /// The newest event, where it is one of ours.
    newest: Option<Place>,
    /// When the newest message was stored.
    stored_at: Timestamp,
}

impl Bounds {
    /// By bisection: the raw sequences in a stream never fall.
    async fn find(
        broker: &dyn Broker,
        stream: Stream,
        raw_sequence: u64,
    ) -> Result<Self, BrokerError> {
        let Some(newest) = broker.last(stream, stream.subjects()).await? else {
            return Ok(Self {
                first: 1,
                boundary: 1,
                last: 0,
                newest: None,
                stored_at: Timestamp::MIN,
            });
        };
        let (first, last) = (broker.state(stream).await?.first_sequence, newest.sequence);
        let (mut low, mut high) = (first, last + 1);
        let stored_at = newest.stored_at;
        let newest = Stored::read(&newest).map(|stored| stored.place);
        if newest.is_some_and(|place| place.0 < raw_sequence) {
            low = high;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            let mut walk = Walk::open(broker, stream, middle..=last).await?;
            match walk.next().await? {
                Some(stored) if stored.place.0 < raw_sequence => low = walk.position + 1,
                _ => high = middle,
            }
        }
        Ok(Self { first, boundary: low, last, newest, stored_at })
    }

    /// The newest `count` messages before.
    fn before(&self, count: usize) -> std::ops::RangeInclusive<u64> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        // `boundary` is at least 1, for sequences are.
        self.boundary.saturating_sub(count).max(self.first)..=self.boundary - 1
    }

    /// The messages from there on.
    fn after(&self) -> std::ops::RangeInclusive<u64> {
        self.boundary..=self.last
    }
}

/// The stored events in a range of a stream. What others wrote is passed over.
struct Walk {
    stream: Stream,
    /// `None` where nothing is left.
    reader: Option<Box<dyn Reader>>,
    /// Read, but not taken.
    peeked: Option<Stored>,
    /// The sequence read last.
    position: u64,
    end: u64,
}

impl Walk {
    async fn open(
        broker: &dyn Broker,
        stream: Stream,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Self, BrokerError> {
        let reader = match range.is_empty() {
            true => None,
            false => Some(broker.reader(stream, &[], Start::Sequence(*range.start())).await?),
        };
        Ok(Self { stream, reader, peeked: None, position: 0, end: *range.end() })
    }

    /// Everything behind a sequence.
    async fn behind(
        broker: &dyn Broker,
        stream: Stream,
        sequence: u64,
    ) -> Result<Self, BrokerError> {
        let newest = broker.last(stream, stream.subjects()).await?;
        let last = newest.map_or(0, |newest| newest.sequence);
        Self::open(broker, stream, sequence + 1..=last).await
    }

    async fn next(&mut self) -> Result<Option<Stored>, BrokerError> {
        if self.peeked.is_some() {
            return Ok(self.peeked.take());
        }
        while let Some(message) = self.message().await? {
            if let Some(stored) = Stored::read(&message) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// The next event, unless it is of a later raw message.
    async fn next_up_to(&mut self, raw_sequence: u64) -> Result<Option<Stored>, BrokerError> {
        self.peeked = self.next().await?;
        Ok(self.peeked.take_if(|stored| stored.place.0 <= raw_sequence))
    }

    async fn message(&mut self) -> Result<Option<Message>, BrokerError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let Ok(message) = tokio::time::timeout(READ_TIMEOUT, reader.next()).await else {
            let fault = format!("it gives no message of {} before {}", self.stream, self.end);
            return Err(BrokerError::Unreachable(fault));
        };
        let message = message?;
        self.position = message.sequence;
        if message.sequence >= self.end {
            self.reader = None;
        }
        Ok(Some(message).filter(|message| message.sequence <= self.end))
    }

    fn is_over(&self) -> bool {
        self.reader.is_none() && self.peeked.is_none()
    }
}
