//! What all connections that asked for the same receive: one log, written once and read by all.
//!
//! A lane belongs to one format and one set of selectors. The hub appends each tick once, whoever
//! rides along; what has come together is sealed into a chunk of finished frames, and every
//! connection is written the same bytes. So a delivery costs a system call and next to nothing
//! else, and a client that lags costs its place in the log and no copy.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Frame, Pipe, Selector, frame::Format, joined, pipe::Riding};

/// How many bytes of frames go into one chunk.
const CHUNK: usize = 64 * 1024;

/// How many ticks that come together are a burst: the next will be one, too, and its first tick can
/// wait for the others.
const BURST: u64 = 4;

/// What is further apart does not belong to one burst.
const APART: Duration = Duration::from_millis(10);

/// What the riders of a lane have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LaneKey {
    /// Which flusher writes to them.
    pub(super) shard: usize,
    pub(super) format: Format,
    /// They can inflate.
    pub(super) deflates: bool,
    /// What they asked for, sorted.
    pub(super) selectors: Arc<[Selector]>,
}

/// The log of one set of selectors.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) key: LaneKey,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    open: Open,
    open_frames: u64,
    /// Sealed, and not yet written to all.
    sealed: Sealed,
    /// The newest sequence appended: a tick that comes along two ways, by its symbol and by a
    /// wildcard, is taken once.
    newest: u64,
    riders: Arc<Vec<Arc<Pipe>>>,
    /// The flusher knows that there is something to write.
    is_due: bool,
    written_at: Option<Instant>,
    /// How many frames had been sealed then.
    written_frames: u64,
    /// When ticks came last, many came together.
    is_bursty: bool,
}

/// What is not sealed yet.
#[derive(Debug, Default)]
enum Open {
    #[default]
    Empty,
    /// A single frame is shared as it is.
    One(Bytes),
    Many(Vec<u8>),
    /// To be joined and deflated.
    Apart(Vec<Arc<Frame>>, usize),
}

/// A run of chunks, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Sealed {
    /// The number of the first of them.
    first: u64,
    chunks: VecDeque<Chunk>,
    /// How many frames were ever sealed.
    frames: u64,
}

/// Finished frames, one behind the other.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    /// The sequence of the last frame in it.
    pub(super) through: u64,
    /// How many frames were ever sealed up to its end.
    pub(super) frames: u64,
    /// How many are in it.
    pub(super) count: u64,
}

/// What has to be done after something was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it is known that there is something to write.
    Known,
    /// It is to be written.
    New {
        /// When it was written last.
        quiet_since: Option<Instant>,
        /// Its ticks have come in bursts.
        expects_more: bool,
    },
    /// It is full, and is to be written at once.
    Full,
}

impl Lane {
    pub(super) fn new(key: LaneKey) -> Arc<Self> {
        let log = Log {
            open: Open::Empty,
            open_frames: 0,
            sealed: Sealed::default(),
            newest: 0,
            riders: Arc::default(),
            is_due: false,
            written_at: None,
            written_frames: 0,
            is_bursty: false,
        };
        Arc::new(Self { key, log: Mutex::new(log) })
    }

    /// Adds a tick for all riders.
    pub(super) fn append(&self, frame: &Arc<Frame>) -> Due {
        let mut log = self.lock();
        if frame.sequence <= log.newest {
            return Due::Known;
        }
        log.newest = frame.sequence;
        log.open_frames += 1;
        let bytes = frame.bytes(self.key.format);
        let length = match &mut log.open {
            Open::Empty if self.key.deflates => {
                log.open = Open::Apart(vec![Arc::clone(frame)], bytes.len());
                bytes.len()
            }
            Open::Apart(frames, length) => {
                frames.push(Arc::clone(frame));
                *length += bytes.len();
                *length
            }
            Open::Empty => {
                log.open = Open::One(bytes.clone());
                bytes.len()
            }
            Open::One(one) => {
                let mut many = Vec::with_capacity(4 * (one.len() + bytes.len()));
                many.extend_from_slice(one);
                many.extend_from_slice(bytes);
                let length = many.len();
                log.open = Open::Many(many);
                length
            }
            Open::Many(many) => {
                many.extend_from_slice(bytes);
                many.len()
            }
        };
        if length >= CHUNK {
            log.seal(self.key.format);
            log.is_due = true;
            return Due::Full;
        }
        if mem::replace(&mut log.is_due, true) {
            return Due::Known;
        }
        Due::New { quiet_since: log.written_at, expects_more: log.is_bursty }
    }

    /// A connection rides along from here on.
    pub(super) fn join(&self, pipe: &Arc<Pipe>) -> Riding {
        let mut log = self.lock();
        log.seal(self.key.format);
        Arc::make_mut(&mut log.riders).push(Arc::clone(pipe));
        log.sealed.end()
    }

    /// A connection leaves, and takes with it what was not written to it yet. False where it was
    /// the last one.
    pub(super) fn leave(&self, pipe: &Pipe, next: u64) -> (Vec<Chunk>, bool) {
        let mut log = self.lock();
        log.seal(self.key.format);
        let riders = Arc::make_mut(&mut log.riders);
        if let Some(at) = riders.iter().position(|other| std::ptr::eq(&**other, pipe)) {
            riders.swap_remove(at);
        }
        let goes_on = !riders.is_empty();
        (log.sealed.from(next).cloned().collect(), goes_on)
    }

    /// What there is from a chunk on.
    pub(super) fn from(&self, next: u64) -> Vec<Chunk> {
        self.lock().sealed.from(next).cloned().collect()
    }

    /// What there is to be written, and to whom; `None` where that has been done already.
    pub(super) fn round(self: Arc<Self>) -> Option<Round> {
        let mut log = self.lock();
        if !mem::take(&mut log.is_due) {
            return None;
        }
        log.seal(self.key.format);
        let now = Instant::now();
        let before = log.written_at.replace(now);
        let frames = log.sealed.frames;
        if frames - mem::replace(&mut log.written_frames, frames) >= BURST {
            log.is_bursty = true;
        } else if before.is_none_or(|before| now.duration_since(before) > APART) {
            // It came alone; the rest of a burst says nothing about the next one.
            log.is_bursty = false;
        }
        let (sealed, riders) = (log.sealed.clone(), Arc::clone(&log.riders));
        drop(log);
        Some(Round { lane: self, sealed, riders })
    }

    /// How many connections ride it.
    #[cfg(test)]
    pub(super) fn riders(&self) -> usize {
        self.lock().riders.len()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a lane has for its riders at one moment.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) lane: Arc<Lane>,
    pub(super) sealed: Sealed,
    pub(super) riders: Arc<Vec<Arc<Pipe>>>,
}

impl Round {
    /// It has been written to all who took it: the lane keeps what somebody still needs. Those who
    /// lag too far behind are given up.
    pub(super) fn end(self) {
        let Self { lane, sealed, riders } = self;
        let places = riders.iter().filter_map(|pipe| pipe.place(&lane, &sealed));
        let oldest = places.fold(sealed.end().next, u64::min);
        // Before somebody else changes the riders, and would have to copy them.
        drop(riders);
        lane.lock().sealed.forget_before(oldest);
    }
}

impl Log {
    fn seal(&mut self, format: Format) {
        let bytes = match mem::take(&mut self.open) {
            Open::Empty => return,
            Open::One(bytes) => bytes,
            Open::Many(bytes) => bytes.into(),
            Open::Apart(frames, _) => {
                joined::messages(&frames, format, self.riders.len()).concat().into()
            }
        };
        let count = mem::take(&mut self.open_frames);
        self.sealed.frames += count;
        let (through, frames) = (self.newest, self.sealed.frames);
        let chunk = Chunk { bytes, through, frames, count };
        self.sealed.chunks.push_back(chunk);
    }
}

impl Sealed {
    /// Where a rider stands that has everything.
    pub(super) fn end(&self) -> Riding {
        Riding { next: self.first + self.chunks.len() as u64, frames: self.frames }
    }

    /// The chunks from a number on.
    pub(super) fn from(&self, next: u64) -> impl Iterator<Item = &Chunk> {
        let skipped = next.saturating_sub(self.first);
        self.chunks.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    fn forget_before(&mut self, number: u64) {
        while self.first < number && self.chunks.pop_front().is_some() {
            self.first += 1;
        }
        if self.chunks.is_empty() {
            // What a burst needed is not kept.
            self.chunks.shrink_to(4);
        }
    }
}
