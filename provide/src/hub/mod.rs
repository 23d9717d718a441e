//! The fan-out: every tick is encoded once and handed by reference to all who asked for it.
//!
//! One lock orders everything: a tick is published, a client subscribed, a replay joined to the
//! live stream, one after the other. That is why none of them ever misses or doubles a tick. It is
//! held for one tick at a time; each delivery under it is the push of one reference.

mod announced;
mod feed;
mod flusher;
pub(crate) mod frame;
mod holds;
mod joined;
mod lane;
mod outbox;
mod pace;
mod pages;
mod pipe;
mod readers;
mod recent;
mod replay;
mod selector;
mod sender;
mod state;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use schemas::Symbol;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use flusher::{FEW, Flusher};
use recent::Recent;
use state::{Published, State};

pub(crate) use announced::follow as follow_announced;
pub(crate) use feed::follow as follow_ticks;
pub(crate) use flusher::Place;
pub(crate) use frame::{Format, Frame};
pub(crate) use holds::ReplayId;
pub(crate) use outbox::Outbox;
pub(crate) use pipe::{Fault, Pipe};
pub(crate) use readers::Readers;
pub(crate) use replay::{Notice, Progress, Replay};
pub(crate) use selector::{Interest, Selector};

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Everything up to and including this sequence was delivered.
    After(u64),
    /// Nothing yet; the first is what was stored at or after this time.
    At(Timestamp),
}

/// What the hub has for a replay.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// These are next, and all of its ticks up to `through` are among them or before.
    More { frames: Vec<Arc<Frame>>, through: u64 },
    /// These are the last; whatever follows them comes live.
    Last { frames: Vec<Arc<Frame>> },
    /// Its next ticks are no longer in memory: read the stream up to this sequence, then ask again.
    Behind { read_to: u64 },
}

/// Knows the newest tick of every symbol and who wants the next.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    flushers: Vec<Arc<Flusher>>,
}

impl Hub {
    /// A hub that writes with so many threads, and holds back what comes for a busy lane for `hold`.
    pub(crate) fn new(shards: usize, hold: Duration, use_io_uring: bool) -> Self {
        let flushers = (0..shards.max(1)).map(|_| Flusher::new(hold, use_io_uring)).collect();
        Self { state: Mutex::default(), flushers }
    }

    /// Writes to the connections until shutdown, with a thread for each shard.
    pub(crate) async fn flush(self: Arc<Self>, shutdown: CancellationToken) {
        let mut flushing = JoinSet::new();
        for flusher in &self.flushers {
            let (flusher, shutdown) = (Arc::clone(flusher), shutdown.clone());
            let runtime = Handle::current();
            flushing.spawn_blocking(move || {
                runtime.block_on(flusher.run(&shutdown));
            });
        }
        flushing.join_all().await;
    }

    /// The newest ticks of the stream are known: clients may come. Those who came before that
    /// cannot go on without a hole: they are told to resume after `break_at`.
    fn load(&self, newest: Vec<Arc<Frame>>, last_sequence: u64, break_at: u64) {
        let mut state = self.lock();
        // They get nothing of the new stream that their position does not count.
        state.forget_audiences();
        state.topics.clear();
        for frame in newest {
            let topic = state.topics.entry(frame.symbol.clone()).or_default();
            topic.newest = Some(frame);
        }
        state.last_sequence = last_sequence;
        state.recent = Some(Recent::after(last_sequence));
        state.broken.send_replace(Some(break_at));
        state.broken = watch::Sender::default();
    }

    /// Changes when the stream breaks, to the sequence after which a client resumes.
    pub(crate) fn broken(&self) -> watch::Receiver<Option<u64>> {
        self.lock().broken.subscribe()
    }

    /// Can clients be served?
    pub(crate) fn is_ready(&self) -> bool {
        self.lock().recent.is_some()
    }

    /// The newest sequence of `TICKS` seen.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.lock().last_sequence
    }

    /// The symbols that sources say they will deliver, all of them.
    fn announce(&self, symbols: HashSet<Symbol>) {
        self.lock().announced = symbols;
    }

    /// Hands ticks to all who asked for them. Where they come faster than they can be written, it
    /// resolves when they are.
    async fn publish(&self, frames: &[Arc<Frame>]) {
        let mut published = Published::for_shards(self.flushers.len());
        for frame in frames {
            self.lock().publish(frame, &mut published);
        }
        for outbox in published.outboxes {
            outbox.wake();
        }
        for (flusher, lanes) in self.flushers.iter().zip(&mut published.lanes) {
            if !lanes.is_empty() {
                flusher.enqueue(lanes);
            }
        }
        if published.is_full {
            for flusher in &self.flushers {
                flusher.caught_up().await;
            }
        }
    }

    /// Ticks up to here have been seen, though there may be nothing to hand on.
    fn advance(&self, sequence: u64) {
        let mut state = self.lock();
        state.last_sequence = state.last_sequence.max(sequence);
    }

    /// Was this ever seen, or announced?
    pub(crate) fn knows(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Prefix(_) => true,
            Selector::Symbol(symbol) => {
                let state = self.lock();
                state.announced.contains(symbol)
                    || state.topics.get(symbol).is_some_and(|topic| topic.newest.is_some())
            }
        }
    }

    /// A place with a flusher for a new connection: the first that has few, else the one that has
    /// fewest.
    pub(crate) fn place(&self) -> Place {
        let flushers = self.flushers.iter().enumerate();
        let place = flushers
            .min_by_key(|(_, flusher)| flusher.connections() / FEW)
            .map(|(shard, flusher)| flusher.place(shard));
        // There is one at least.
        place.unwrap_or_else(|| Flusher::new(Duration::ZERO, false).place(0))
    }

    /// From now on all ticks of `interest` come by a lane. What the former lane still had is
    /// written first, then `answer`, then the newest tick of each symbol of `fresh` that did not
    /// come before (as `current` says), sorted.
    pub(crate) fn ride(
        &self,
        pipe: &Arc<Pipe>,
        current: &Interest,
        interest: &Interest,
        fresh: &[Selector],
        answer: Bytes,
    ) {
        let mut state = self.lock();
        let mut snapshot = Vec::new();
        for selector in fresh {
            state.newest_of(selector, &mut snapshot);
        }
        snapshot.retain(|frame| !current.matches(&frame.symbol));
        sort(&mut snapshot);
        state.leave(pipe);
        pipe.queue([answer]);
        pipe.queue_frames(&snapshot);
        state.board(pipe, interest);
        drop(state);
        pipe.write();
    }

    /// From now on nothing comes by a lane. What it still had is written. Returns the sequence up
    /// to which everything was taken out.
    pub(crate) fn alight(&self, pipe: &Pipe) -> u64 {
        let mut state = self.lock();
        state.leave(pipe);
        state.last_sequence
    }

    /// The connection changes from its outbox to a lane, and misses nothing; false where it cannot
    /// yet, because what a replay has delivered is still to come live.
    pub(crate) fn board(
        &self,
        pipe: &Arc<Pipe>,
        outbox: &Arc<Outbox>,
        interest: &Interest,
    ) -> bool {
        let mut state = self.lock();
        let last = state.last_sequence;
        if outbox.overflowed().is_some() || !outbox.with_holds(|holds| holds.is_through(last)) {
            return false;
        }
        for selector in interest.selectors() {
            state.remove_outbox(outbox, &selector);
        }
        pipe.queue_frames(&outbox.take(usize::MAX));
        state.board(pipe, interest);
        drop(state);
        pipe.write();
        true
    }

    /// From now on these come to that outbox. Returns the newest tick of each symbol that did not
    /// come to it before (as `current` says) and that no replay delivers, sorted: every later tick
    /// comes after them.
    pub(crate) fn subscribe(
        &self,
        outbox: &Arc<Outbox>,
        current: &Interest,
        selectors: &[Selector],
    ) -> Vec<Arc<Frame>> {
        let mut state = self.lock();
        let mut snapshot = Vec::new();
        for selector in selectors {
            state.newest_of(selector, &mut snapshot);
            state.add_outbox(outbox, selector);
        }
        snapshot.retain(|frame| !current.matches(&frame.symbol));
        outbox.with_holds(|holds| snapshot.retain(|frame| !holds.holds(&frame.symbol)));
        sort(&mut snapshot);
        snapshot
    }

    /// The connection changes from its lane to an outbox, and misses nothing.
    pub(crate) fn transfer(&self, pipe: &Pipe, outbox: &Arc<Outbox>, interest: &Interest) {
        let mut state = self.lock();
        state.leave(pipe);
        for selector in interest.selectors() {
            state.add_outbox(outbox, &selector);
        }
    }

    /// From now on these no longer come to that outbox.
    pub(crate) fn unsubscribe(
        &self,
        outbox: &Arc<Outbox>,
        selectors: impl IntoIterator<Item = Selector>,
    ) {
        let mut state = self.lock();
        for selector in selectors {
            state.remove_outbox(outbox, &selector);
        }
    }

    /// What comes next for a replay, at most `limit` ticks; or, if it `may_end`, that it goes live,
    /// which it then does at this moment.
    pub(crate) fn pull(
        &self,
        outbox: &Outbox,
        replay: ReplayId,
        position: Position,
        limit: usize,
        may_end: bool,
    ) -> Pulled {
        let state = self.lock();
        outbox.with_holds(|holds| {
            let Some(interest) = holds.interest(replay) else {
                return Pulled::Last { frames: Vec::new() };
            };
            let Some(recent) = &state.recent else {
                return Pulled::Behind { read_to: u64::MAX };
            };
            let Some(kept) = recent.from(position) else {
                let missing = state.newest_wanted(interest, position);
                return match missing {
                    Some(newest) => Pulled::Behind { read_to: newest.min(recent.floor()) },
                    None if !may_end => {
                        Pulled::More { frames: Vec::new(), through: position.sequence() }
                    }
                    None => {
                        holds.release(replay, position.sequence());
                        Pulled::Last { frames: Vec::new() }
                    }
                };
            };
            let mut wanted = kept.filter(|frame| holds.wants(replay, &frame.symbol));
            let frames: Vec<_> = wanted.by_ref().take(limit).cloned().collect();
            let (is_all, through) = (
                wanted.next().is_none(),
                frames.last().map_or(position.sequence(), |frame| frame.sequence),
            );
            if !is_all || !may_end {
                return Pulled::More { frames, through };
            }
            // A replay may be ahead of the hub; what it has delivered is not delivered again.
            holds.release(replay, through.max(position.sequence()));
            Pulled::Last { frames }
        })
    }

    /// The sequence up to which everything was taken out of an outbox.
    pub(crate) fn taken_through(&self, outbox: &Outbox) -> u64 {
        let state = self.lock();
        outbox.oldest().map_or(state.last_sequence, |oldest| oldest.saturating_sub(1))
    }

    /// How many subscriptions there are.
    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> usize {
        let state = self.lock();
        let riders: usize =
            state.lanes.values().map(|lane| lane.riders() * lane.key.selectors.len()).sum();
        let by_symbol = state.topics.values().map(|topic| topic.audience.outboxes.len());
        let by_prefix = state.wildcards.values().map(|audience| audience.outboxes.len());
        riders + by_symbol.chain(by_prefix).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One tick of each symbol, sorted by symbol.
fn sort(snapshot: &mut Vec<Arc<Frame>>) {
    snapshot.sort_unstable_by(|a, b| a.symbol.cmp(&b.symbol));
    snapshot.dedup_by(|a, b| a.symbol == b.symbol);
}

impl Position {
    /// The sequence up to which everything was delivered; 0 where that is not known.
    pub(crate) fn sequence(self) -> u64 {
        match self {
            Self::After(sequence) => sequence,
            Self::At(_) => 0,
        }
    }

    /// Is this tick still to come?
    fn is_before(self, frame: &Frame) -> bool {
        match self {
            Self::After(sequence) => frame.sequence > sequence,
            Self::At(time) => frame.stored_at >= time,
        }
    }
}
