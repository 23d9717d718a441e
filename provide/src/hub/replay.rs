//! History for one connection: from where the client asks, up to the live stream.
//!
//! Its ticks come from the stream, read at the pace at which the client takes them, and the newest
//! from the hub's memory, where under the hub's lock the replay ends and the live stream begins.
//!
//! `prev` of a replayed tick is the true sequence of the symbol's tick before it. For the first one
//! of a symbol it is looked for among the [`LOOKBACK`] sequences before the start; where it is not
//! there, `prev` is 0, "none known". The start itself hides no gap: where history is missing, the
//! client is told ([`Notice::Truncated`]).

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use nats::{Broker, BrokerError, Message, Reader, Start, StreamState, topology::Stream};
use schemas::subject;
use service::Backoff;
use tokio::time::sleep;
use tracing::warn;

use super::{
    Frame, Hub, Interest, Outbox, Position, Pulled, Readers, ReplayId,
    frame::Encoder,
    pace::Pace,
    pages::{PAGE, Page},
    readers::Seated,
};

/// How many sequences before the start are read to find the first `prev` of each symbol.
pub(super) const LOOKBACK: u64 = 10_000;

/// How many ticks a replay hands over at a time.
const CHUNK: usize = 256;

/// From how far behind a replay takes the pages that all share. What lies further back it reads for
/// itself, and only its own symbols.
const SHARED: u64 = 8 * PAGE;

/// What the client must be told about its replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// What was asked for is no longer kept; the oldest tick there is has this sequence.
    Truncated {
        /// The sequence of the oldest tick kept.
        first: u64,
    },
    /// The sequence asked for does not exist yet; this is the newest.
    Ahead {
        /// The sequence of the newest tick.
        last: u64,
    },
}

/// A step of a replay.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The next ticks.
    Ticks(Vec<Arc<Frame>>),
    /// To be told before the ticks that follow.
    Notice(Notice),
    /// The next ticks of a replay at a pace, to be marked as such.
    Replayed(Vec<Arc<Frame>>),
    /// The last ticks: from now on these symbols come live.
    Done(Vec<Arc<Frame>>),
}

/// One replay of one connection.
pub(crate) struct Replay {
    id: ReplayId,
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    position: Position,
    pace: Option<Pace>,
    encoder: Encoder,
    /// Everything up to here was read, before the start too.
    read_through: u64,
    source: Source,
    /// The stream was asked for its bounds.
    is_checked: bool,
    /// As far as the hub said to read.
    read_to: u64,
    backoff: Backoff,
}

enum Source {
    /// Not reading the stream.
    Closed,
    /// Kept between calls, so that a connection busy with other things does not begin it again and
    /// again.
    Opening(BoxFuture<'static, Result<Opened, BrokerError>>),
    Open(Seated),
    /// The same for a page.
    Turning(BoxFuture<'static, Result<Turned, BrokerError>>),
}

struct Turned {
    page: Arc<Page>,
    notice: Option<Notice>,
}

struct Opened {
    reader: Seated,
    notice: Option<Notice>,
}

impl Replay {
    /// A replay whose interest is held in the connection's outbox under `id`: as fast as it goes,
    /// or at so many times the pace at which the stream stored it.
    pub(crate) fn new(
        id: ReplayId,
        hub: Arc<Hub>,
        readers: Arc<Readers>,
        position: Position,
        speed: Option<u32>,
    ) -> Self {
        Self {
            id,
            hub,
            readers,
            position,
            pace: speed.map(Pace::new),
            encoder: Encoder::default(),
            read_through: 0,
            source: Source::Closed,
            is_checked: false,
            read_to: 0,
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
        }
    }

    /// The sequence up to which everything was handed over; `None` where it has not begun.
    pub(crate) fn resume_from(&self) -> Option<u64> {
        if let Some(next) = self.pace.as_ref().and_then(Pace::next) {
            return Some(next.sequence.saturating_sub(1));
        }
        match self.position {
            Position::After(sequence) => Some(sequence),
            Position::At(_) => None,
        }
    }

    /// The next step. Cancel safe. A broken reader is opened anew where it stood.
    pub(crate) async fn next(&mut self, outbox: &Outbox) -> Progress {
        loop {
            let Some(pace) = &mut self.pace else { return self.fetch(outbox, true).await };
            let mut due = pace.take_due();
            if !due.is_empty() {
                outbox.with_holds(|holds| due.retain(|it| holds.wants(self.id, &it.symbol)));
                return Progress::Replayed(due);
            }
            if pace.next().is_some() {
                pace.wait().await;
                continue;
            }
            let may_end = pace.has_caught_up();
            match self.fetch(outbox, may_end).await {
                Progress::Ticks(frames) => {
                    let Some(pace) = &mut self.pace else { continue };
                    if frames.is_empty() {
                        pace.wait().await;
                    }
                    pace.fetched(frames);
                }
                other => return other,
            }
        }
    }

    /// What comes next, whenever it was. Without `may_end` it does not go live; then there may be
    /// nothing.
    async fn fetch(&mut self, outbox: &Outbox, may_end: bool) -> Progress {
        loop {
            // A start that lies ahead of the hub may lie ahead of the stream too.
            let is_doubtful =
                !self.is_checked && self.position.sequence() > self.hub.last_sequence();
            if !is_doubtful && self.position.sequence() >= self.read_to {
                match self.hub.pull(outbox, self.id, self.position, CHUNK, may_end) {
                    Pulled::More { frames, through } => {
                        self.source = Source::Closed;
                        self.went_to(&frames, through);
                        return Progress::Ticks(frames);
                    }
                    Pulled::Last { frames } => return Progress::Done(frames),
                    Pulled::Behind { read_to } => self.read_to = read_to,
                }
            }
            match &mut self.source {
                Source::Closed => {
                    let is_near = self.is_near();
                    self.source = if is_near { self.turn(None) } else { self.open(outbox, None) };
                }
                Source::Turning(turning) => match turning.await {
                    Ok(Turned { page, notice }) => {
                        self.source = Source::Closed;
                        self.is_checked = true;
                        self.backoff.reset();
                        if let Some(Notice::Truncated { first }) = notice {
                            self.position = Position::After(first.saturating_sub(1));
                            return Progress::Notice(Notice::Truncated { first });
                        }
                        let frames = self.of_page(&page, outbox);
                        if !frames.is_empty() {
                            return Progress::Ticks(frames);
                        }
                    }
                    Err(fault) => {
                        let delay = self.backoff.next_delay();
                        warn!(%fault, ?delay, "a replay broke off; reading its page anew");
                        self.source = self.turn(Some(delay));
                    }
                },
                Source::Opening(opening) => match opening.await {
                    Ok(Opened { reader, notice }) => {
                        self.is_checked = true;
                        self.source = Source::Open(reader);
                        match notice {
                            Some(Notice::Ahead { last }) => {
                                self.position = Position::After(last);
                                self.source = Source::Closed;
                            }
                            // What is missing may hold the tick before the next.
                            Some(Notice::Truncated { .. }) => self.encoder = Encoder::default(),
                            None => {}
                        }
                        if let Some(notice) = notice {
                            return Progress::Notice(notice);
                        }
                    }
                    Err(fault) => self.reopen(outbox, &fault),
                },
                Source::Open(seated) => {
                    let (messages, fault) = read(&mut *seated.reader).await;
                    let is_over = seated.is_over();
                    let frames = self.encode(&messages, outbox);
                    match fault {
                        Some(fault) => self.reopen(outbox, &fault),
                        None => self.backoff.reset(),
                    }
                    if is_over || self.is_near() {
                        self.rest();
                    }
                    if !frames.is_empty() {
                        return Progress::Ticks(frames);
                    }
                }
            }
        }
    }

    /// Leaves its place at the stream to others; the next step queues for one.
    pub(crate) fn rest(&mut self) {
        self.source = Source::Closed;
    }

    /// Is it near enough for the pages that all share?
    fn is_near(&self) -> bool {
        // Where a time lies in the stream only the stream knows.
        let Position::After(sequence) = self.position else { return false };
        (1..=SHARED).contains(&self.read_to.saturating_sub(sequence)) && self.read_to < u64::MAX
    }

    fn turn(&self, delay: Option<Duration>) -> Source {
        let (readers, position, needed, is_checked) =
            (Arc::clone(&self.readers), self.position.sequence(), self.read_to, self.is_checked);
        let turning = async move {
            if let Some(delay) = delay {
                sleep(delay).await;
            }
            let first = readers.pages().bounds().await?.first_sequence;
            let is_truncated = !is_checked && position > 0 && position + 1 < first;
            let notice = is_truncated.then_some(Notice::Truncated { first });
            let from = position.max(first.saturating_sub(1));
            let page = readers.pages().after(from, needed).await?;
            Ok(Turned { page, notice })
        };
        Source::Turning(turning.boxed())
    }

    /// The ticks of a page that are for this replay to deliver, from where it stands.
    fn of_page(&mut self, page: &Page, outbox: &Outbox) -> Vec<Arc<Frame>> {
        let position = self.position.sequence();
        let first = page.frames.partition_point(|frame| frame.sequence <= position);
        let frames = page.frames.get(first..).unwrap_or_default();
        self.went_to(frames, page.through.max(position));
        let mut frames = frames.to_vec();
        outbox.with_holds(|holds| frames.retain(|frame| holds.wants(self.id, &frame.symbol)));
        frames
    }

    fn went_to(&mut self, frames: &[Arc<Frame>], through: u64) {
        for frame in frames {
            self.encoder.seen(&frame.symbol, frame.sequence);
        }
        self.position = Position::After(through);
        self.read_through = through;
    }

    /// The ticks among the messages that are for this replay to deliver.
    fn encode(&mut self, messages: &[Message], outbox: &Outbox) -> Vec<Arc<Frame>> {
        let mut frames = Vec::new();
        for message in messages {
            self.read_through = message.sequence;
            let Some(frame) = self.encoder.encode(message) else { continue };
            let is_lookback = matches!(self.position, Position::After(sequence)
                if message.sequence <= sequence);
            if !is_lookback {
                self.position = Position::After(message.sequence);
                frames.push(frame);
            }
        }
        outbox.with_holds(|holds| frames.retain(|frame| holds.wants(self.id, &frame.symbol)));
        frames
    }

    fn reopen(&mut self, outbox: &Outbox, fault: &BrokerError) {
        let delay = self.backoff.next_delay();
        warn!(%fault, ?delay, "a replay broke off; opening it anew");
        self.source = self.open(outbox, Some(delay));
    }

    fn open(&self, outbox: &Outbox, delay: Option<Duration>) -> Source {
        let subjects = outbox.with_holds(|holds| holds.interest(self.id).map(subjects));
        let (readers, position, read_through, is_checked) =
            (Arc::clone(&self.readers), self.position, self.read_through, self.is_checked);
        let opening = async move {
            if let Some(delay) = delay {
                sleep(delay).await;
            }
            let place = readers.place().await?;
            let notice = check(place.broker(), position).await?;
            // That it was ahead is said once.
            let notice = notice.filter(|it| !is_checked || matches!(it, Notice::Truncated { .. }));
            let start = match position {
                Position::After(_) if read_through > 0 => Start::Sequence(read_through + 1),
                Position::After(sequence) => {
                    Start::Sequence(sequence.saturating_sub(LOOKBACK).saturating_add(1))
                }
                Position::At(time) => Start::Time(time),
            };
            let reader = place.read(&subjects.unwrap_or_default(), start).await?;
            Ok(Opened { reader, notice })
        };
        Source::Opening(opening.boxed())
    }
}

/// The subjects to read; none, which is all, where there is a wildcard.
fn subjects(interest: &Interest) -> Vec<String> {
    let symbols = interest.symbols_only();
    symbols.map(|symbols| symbols.iter().map(subject::tick).collect()).unwrap_or_default()
}

/// The next message and those that have arrived behind it, up to the reader's death. Cancel safe.
async fn read(reader: &mut dyn Reader) -> (Vec<Message>, Option<BrokerError>) {
    let mut messages = Vec::new();
    let mut next = reader.next().await;
    loop {
        match next {
            Ok(message) => messages.push(message),
            Err(fault) => return (messages, Some(fault)),
        }
        if messages.len() == CHUNK {
            return (messages, None);
        }
        match reader.next().now_or_never() {
            Some(arrived) => next = arrived,
            None => return (messages, None),
        }
    }
}

/// Is everything still there that the position asks for?
async fn check(broker: &dyn Broker, position: Position) -> Result<Option<Notice>, BrokerError> {
    let state = broker.state(Stream::Ticks).await?;
    let truncated = Some(Notice::Truncated { first: state.first_sequence });
    Ok(match position {
        // Everything kept was asked for.
        Position::After(0) => None,
        Position::After(sequence) if sequence > state.last_sequence => {
            Some(Notice::Ahead { last: state.last_sequence })
        }
        Position::After(sequence) if sequence + 1 < state.first_sequence => truncated,
        Position::At(time) if state.first_sequence > 1 => {
            let oldest = oldest(broker, state).await?;
            oldest.is_none_or(|oldest| oldest.stored_at > time).then_some(truncated).flatten()
        }
        Position::After(_) | Position::At(_) => None,
    })
}

/// The oldest message kept.
async fn oldest(broker: &dyn Broker, state: StreamState) -> Result<Option<Message>, BrokerError> {
    if state.messages == 0 {
        return Ok(None);
    }
    let start = Start::Sequence(state.first_sequence);
    broker.reader(Stream::Ticks, &[], start).await?.next().await.map(Some)
}
