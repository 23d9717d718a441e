//! What earlier sessions have stored already, read back from the streams.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use nats::{Broker, BrokerError, Message, Reader, Start, topology::Stream};

use super::{
    output::{Fate, Stored},
    partition,
    positions::{Position, Progress},
};
use crate::validate::Memory;

/// How long a stored message may keep us waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the events of payloads that are read again.
pub(super) enum Recovery {
    /// One writer: the stored events are walked along, payload by payload, while their payloads are
    /// read again. It holds the events of one payload at a time, however much there is to walk along.
    Walking { ticks: Walk, rejections: Walk },
    /// Several writers: their events stand mixed in the streams, so what is behind the positions is
    /// read beforehand. That is what all of them have stored since these were saved.
    Loaded(BTreeMap<u64, HashMap<String, Fate>>),
}

impl Recovery {
    /// Finds in both streams where the events of the raw message `first` and later ones begin, and
    /// fills the memory with the ids of the ticks before.
    pub(super) async fn open(
        broker: &dyn Broker,
        first: u64,
        memory: &mut Memory,
    ) -> Result<Self, BrokerError> {
        let ticks = Bounds::find(broker, Stream::Ticks, first).await?;
        let remembered = ticks.before(memory.capacity());
        let mut walk = Walk::open(broker, Stream::Ticks, remembered).await?;
        while let Some(tick) = walk.next().await? {
            memory.remember(&tick.event_id);
        }
        let rejections = Bounds::find(broker, Stream::Rejected, first).await?;
        Ok(Self::Walking {
            ticks: Walk::open(broker, Stream::Ticks, ticks.after()).await?,
            rejections: Walk::open(broker, Stream::Rejected, rejections.after()).await?,
        })
    }

    /// Reads what is stored behind the positions of `count` partitions, and fills the memory with
    /// the newest ticks before them.
    pub(super) async fn load(
        broker: &dyn Broker,
        progress: &Progress,
        count: u16,
        memory: &mut Memory,
    ) -> Result<Self, BrokerError> {
        let Position { raw, ticks, rejected } = progress.least();
        let mut fates = BTreeMap::<u64, HashMap<String, Fate>>::new();
        let mut add = |stored: Stored| {
            if stored.raw_sequence > raw {
                let of_payload = fates.entry(stored.raw_sequence).or_default();
                of_payload.insert(stored.event_id, stored.fate);
            }
        };
        let remembered = u64::try_from(memory.capacity()).unwrap_or(u64::MAX);
        let mut walk =
            Walk::behind(broker, Stream::Ticks, ticks.saturating_sub(remembered)).await?;
        while let Some(tick) = walk.next().await? {
            let position = progress.of(partition::of_subject(&tick.subject, count));
            if position.is_some_and(|position| tick.raw_sequence <= position.raw) {
                memory.remember(&tick.event_id);
            }
            add(tick);
        }
        let mut walk = Walk::behind(broker, Stream::Rejected, rejected).await?;
        while let Some(rejection) = walk.next().await? {
            add(rejection);
        }
        Ok(Self::Loaded(fates))
    }

    /// What became of the events of this raw message, by event id. Its sequence grows from call to
    /// call.
    pub(super) async fn fates(
        &mut self,
        raw_sequence: u64,
    ) -> Result<HashMap<String, Fate>, BrokerError> {
        let (ticks, rejections) = match self {
            Self::Walking { ticks, rejections } => (ticks, rejections),
            Self::Loaded(loaded) => {
                let mut rest = loaded.split_off(&raw_sequence);
                let fates = rest.remove(&raw_sequence).unwrap_or_default();
                *loaded = rest;
                return Ok(fates);
            }
        };
        let mut fates = HashMap::new();
        for walk in [ticks, rejections] {
            while let Some(stored) = walk.next_up_to(raw_sequence).await? {
                if stored.raw_sequence == raw_sequence {
                    fates.insert(stored.event_id, stored.fate);
                }
            }
        }
        Ok(fates)
    }

    /// The newest payload of which something is known to be stored; 0 where that is not told.
    pub(super) fn newest_payload(&self) -> u64 {
        match self {
            Self::Walking { .. } => 0,
            Self::Loaded(fates) => fates.last_key_value().map_or(0, |(sequence, _)| *sequence),
        }
    }

    /// Nothing is left that is known.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Walking { ticks, rejections } => ticks.is_over() && rejections.is_over(),
            Self::Loaded(fates) => fates.is_empty(),
        }
    }
}

/// Where in a stream the events of a raw message and later ones begin.
struct Bounds {
    /// The first sequence kept.
    first: u64,
    /// The first sequence of them; one after `last` where there are none.
    boundary: u64,
    /// The newest sequence.
    last: u64,
}

impl Bounds {
    /// By bisection: the raw sequences in a stream never fall.
    async fn find(
        broker: &dyn Broker,
        stream: Stream,
        raw_sequence: u64,
    ) -> Result<Self, BrokerError> {
        let Some(newest) = broker.last(stream, stream.subjects()).await? else {
            return Ok(Self { first: 1, boundary: 1, last: 0 });
        };
        let (first, last) = (broker.state(stream).await?.first_sequence, newest.sequence);
        let (mut low, mut high) = (first, last + 1);
        if Stored::read(&newest).is_some_and(|stored| stored.raw_sequence < raw_sequence) {
            low = high;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            let mut walk = Walk::open(broker, stream, middle..=last).await?;
            match walk.next().await? {
                Some(stored) if stored.raw_sequence < raw_sequence => low = walk.position + 1,
                _ => high = middle,
            }
        }
        Ok(Self { first, boundary: low, last })
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
pub(super) struct Walk {
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
        Ok(self.peeked.take_if(|stored| stored.raw_sequence <= raw_sequence))
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
