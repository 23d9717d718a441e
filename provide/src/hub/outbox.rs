//! The bounded queue between the hub and one connection.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemas::Symbol;
use tokio::sync::Notify;

use super::{
    Frame, Interest,
    holds::{Holds, ReplayId},
};

/// What waits for one client. Pushing never waits and costs the same however much is in it.
///
/// It holds at most as many frames as its capacity; a conflating client's holds at most one per
/// symbol. A client that lets it overflow is given up: the queue is freed, and takes no more.
#[derive(Debug)]
pub(crate) struct Outbox {
    capacity: usize,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug)]
struct Queue {
    waiting: Waiting,
    holds: Holds,
    /// The newest sequence that was pushed: a tick that reaches a client along two ways, by its
    /// symbol and by a wildcard, is taken once.
    pushed: u64,
    /// Set when the client was too slow: everything up to here was taken out before.
    overflowed: Option<u64>,
}

#[derive(Debug)]
enum Waiting {
    /// All of it, in order.
    Every(VecDeque<Arc<Frame>>),
    /// The newest of each symbol, in the order in which the symbols began to wait.
    Newest { order: VecDeque<Symbol>, frames: HashMap<Symbol, Arc<Frame>> },
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Every(frames) => frames.len(),
            Self::Newest { order, .. } => order.len(),
        }
    }

    fn pop(&mut self) -> Option<Arc<Frame>> {
        match self {
            Self::Every(frames) => frames.pop_front(),
            Self::Newest { order, frames } => {
                order.pop_front().and_then(|symbol| frames.remove(&symbol))
            }
        }
    }

    fn push(&mut self, frame: Arc<Frame>) {
        match self {
            Self::Every(frames) => frames.push_back(frame),
            Self::Newest { order, frames } => {
                if !frames.contains_key(&frame.symbol) {
                    order.push_back(frame.symbol.clone());
                }
                frames.insert(frame.symbol.clone(), frame);
            }
        }
    }

    /// The oldest sequence that waits.
    fn oldest(&self) -> Option<u64> {
        match self {
            Self::Every(frames) => frames.front().map(|frame| frame.sequence),
            Self::Newest { frames, .. } => frames.values().map(|frame| frame.sequence).min(),
        }
    }

    fn retain(&mut self, keep: impl Fn(&Symbol) -> bool) {
        match self {
            Self::Every(frames) => frames.retain(|frame| keep(&frame.symbol)),
            Self::Newest { order, frames } => {
                order.retain(&keep);
                frames.retain(|symbol, _| keep(symbol));
            }
        }
    }
}

impl Outbox {
    /// An empty queue of at most `capacity` frames.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            queue: Mutex::new(Queue {
                waiting: Waiting::Every(VecDeque::new()),
                holds: Holds::default(),
                pushed: 0,
                overflowed: None,
            }),
            wake: Notify::new(),
        })
    }

    /// Adds a live tick. True where the connection has to be woken for it.
    pub(super) fn push(&self, frame: &Arc<Frame>) -> bool {
        let mut queue = self.lock();
        if queue.overflowed.is_some() || frame.sequence <= queue.pushed {
            return false;
        }
        queue.pushed = frame.sequence;
        if queue.holds.withhold(frame) {
            return false;
        }
        let was_empty = queue.waiting.len() == 0;
        if let Waiting::Every(frames) = &mut queue.waiting
            && frames.len() >= self.capacity
        {
            let oldest = frames.front().map_or(frame.sequence, |oldest| oldest.sequence);
            queue.overflowed = Some(oldest.saturating_sub(1));
            queue.waiting = Waiting::Every(VecDeque::new());
            return true;
        }
        queue.waiting.push(Arc::clone(frame));
        was_empty
    }

    /// Wakes the connection.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when something came into the empty queue, or it overflowed. Cancel safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// How many frames wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes the first frames out, at most `count`.
    pub(crate) fn take(&self, count: usize) -> Vec<Arc<Frame>> {
        let mut queue = self.lock();
        let count = count.min(queue.waiting.len());
        std::iter::from_fn(|| queue.waiting.pop()).take(count).collect()
    }

    /// Where the client was too slow: the sequence up to which everything was taken out.
    pub(crate) fn overflowed(&self) -> Option<u64> {
        self.lock().overflowed
    }

    /// The sequence of the oldest tick that waits.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.lock().waiting.oldest()
    }

    /// From now on only the newest of each symbol waits, or every tick. What has waited for the
    /// other way is returned, to be sent first.
    pub(crate) fn conflate(&self, conflate: bool) -> Vec<Arc<Frame>> {
        let mut queue = self.lock();
        if conflate == matches!(queue.waiting, Waiting::Newest { .. }) {
            return Vec::new();
        }
        let other = if conflate {
            Waiting::Newest { order: VecDeque::new(), frames: HashMap::new() }
        } else {
            Waiting::Every(VecDeque::new())
        };
        let mut waited = std::mem::replace(&mut queue.waiting, other);
        std::iter::from_fn(|| waited.pop()).collect()
    }

    /// Forgets what waits and is asked for no more.
    pub(crate) fn keep(&self, interest: &Interest) {
        self.lock().waiting.retain(|symbol| interest.matches(symbol));
    }

    /// From now on a replay delivers these, and what waits of them is forgotten.
    pub(crate) fn hold(&self, replay: ReplayId, interest: Interest) {
        let mut queue = self.lock();
        queue.waiting.retain(|symbol| !interest.matches(symbol));
        queue.holds.add(replay, interest);
    }

    /// What replays deliver, to be asked or changed.
    pub(crate) fn with_holds<T>(&self, work: impl FnOnce(&mut Holds) -> T) -> T {
        work(&mut self.lock().holds)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Selector,
            frame::{Encoder, tests::message},
        },
        *,
    };

    fn frame(symbol: &str, sequence: u64) -> Arc<Frame> {
        Encoder::default().encode(&message(symbol, "1", sequence)).unwrap()
    }

    fn taken(outbox: &Outbox) -> Vec<u64> {
        outbox.take(usize::MAX).iter().map(|frame| frame.sequence).collect()
    }

    fn interest(text: &str) -> Interest {
        Selector::parse(text).into_iter().collect()
    }

    #[test]
    fn it_wakes_once_and_takes_a_tick_once() {
        let outbox = Outbox::new(8);
        assert!(outbox.push(&frame("A", 1)));
        assert!(!outbox.push(&frame("A", 1)), "by a wildcard too");
        assert!(!outbox.push(&frame("B", 2)));
        assert_eq!(taken(&outbox), [1, 2]);
        assert!(outbox.push(&frame("B", 3)));
        assert_eq!(outbox.oldest(), Some(3));
    }

    #[test]
    fn an_overflow_frees_it_and_says_from_where_to_resume() {
        let outbox = Outbox::new(3);
        for sequence in [10, 20, 30] {
            outbox.push(&frame("A", sequence));
        }
        assert_eq!(outbox.overflowed(), None);
        assert!(outbox.push(&frame("A", 40)), "it wakes the connection to close it");
        assert_eq!(outbox.overflowed(), Some(9));
        assert!(!outbox.push(&frame("A", 50)));
        assert!(taken(&outbox).is_empty());
    }

    #[test]
    fn conflated_it_holds_the_newest_of_each_symbol_in_order() {
        let outbox = Outbox::new(2);
        outbox.push(&frame("A", 1));
        assert_eq!(outbox.conflate(true).len(), 1);
        for (symbol, sequence) in [("A", 2), ("B", 3), ("A", 4), ("C", 5), ("B", 6)] {
            outbox.push(&frame(symbol, sequence));
        }
        assert_eq!(outbox.oldest(), Some(4));
        assert_eq!(taken(&outbox), [4, 6, 5]);
        assert_eq!(outbox.overflowed(), None);
    }

    #[test]
    fn what_a_replay_delivers_is_withheld_until_it_is_through() {
        let outbox = Outbox::new(8);
        outbox.push(&frame("BTC", 1));
        outbox.push(&frame("A", 2));
        outbox.hold(1, interest("B*"));
        outbox.push(&frame("BTC", 3));
        outbox.with_holds(|holds| holds.release(1, 5));
        outbox.push(&frame("BTC", 5));
        outbox.push(&frame("BTC", 6));
        assert_eq!(taken(&outbox), [2, 6]);
    }

    #[test]
    fn the_later_of_two_replays_delivers_what_both_ask_for() {
        let outbox = Outbox::new(8);
        outbox.hold(1, interest("B*"));
        outbox.hold(2, interest("BTC"));
        let symbol = |text| Symbol::new(text).unwrap();
        outbox.with_holds(|holds| {
            assert!(holds.wants(1, &symbol("BNB")) && !holds.wants(1, &symbol("BTC")));
            assert!(holds.wants(2, &symbol("BTC")) && !holds.wants(2, &symbol("BNB")));
        });
        outbox.hold(3, interest("B*"));
        outbox.with_holds(|holds| assert!(holds.interest(1).is_none()));
    }
}
