//! The bounded queue of candles between the hub and one connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemas::CandleInterval;
use tokio::sync::Notify;

use super::CandleFrame;
use crate::{
    backlog::Backlog,
    hub::{Interest, Selector},
};

/// What waits for one client, and what it follows.
///
/// Where it is full, candles that are running make room, for newer ones follow; a client that does
/// not even take those that are closed is given up.
#[derive(Debug)]
pub(crate) struct CandleQueue {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    follows: HashMap<CandleInterval, Interest>,
    backlog: Backlog<CandleFrame>,
}

impl CandleQueue {
    /// A queue of at most so many candles.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let inner = Inner { follows: HashMap::new(), backlog: Backlog::new(capacity) };
        Arc::new(Self { inner: Mutex::new(inner), wake: Notify::new() })
    }

    /// Adds a candle that the client follows.
    pub(super) fn offer(&self, frame: &Arc<CandleFrame>) {
        let mut inner = self.lock();
        let follows = inner.follows.get(&frame.interval);
        if !follows.is_some_and(|it| it.matches(&frame.symbol)) {
            return;
        }
        if inner.backlog.is_full() {
            inner.backlog.retain(|waiting| waiting.closed);
        }
        inner.backlog.push(frame);
        self.wake.notify_one();
    }

    /// Follows these, too. Returns what was followed before.
    pub(super) fn follow(&self, interval: CandleInterval, fresh: &Interest) -> Interest {
        let mut inner = self.lock();
        let follows = inner.follows.entry(interval).or_default();
        let before = follows.clone();
        for selector in fresh.selectors() {
            follows.insert(selector);
        }
        before
    }

    /// Follows these no longer. True where nothing of this length is left.
    pub(super) fn forget(&self, interval: CandleInterval, selectors: &[Selector]) -> bool {
        let mut inner = self.lock();
        let Some(follows) = inner.follows.get_mut(&interval) else { return true };
        for selector in selectors {
            follows.remove(selector);
        }
        let follows = follows.clone();
        inner.backlog.retain(|frame| frame.interval != interval || follows.matches(&frame.symbol));
        if follows.is_empty() {
            inner.follows.remove(&interval);
        }
        follows.is_empty()
    }

    /// What is followed: the symbols and patterns by length, shortest first.
    pub(crate) fn follows(&self) -> Vec<(CandleInterval, Vec<String>)> {
        let inner = self.lock();
        let of = |interval| Some((interval, inner.follows.get(&interval)?.names()));
        CandleInterval::ALL.into_iter().filter_map(of).collect()
    }

    /// Takes out at most so many.
    pub(crate) fn take(&self, count: usize) -> Vec<Arc<CandleFrame>> {
        self.lock().backlog.take(count)
    }

    /// Was the client too slow?
    pub(crate) fn has_overflowed(&self) -> bool {
        self.lock().backlog.has_overflowed()
    }

    /// Resolves when something came. Cancel safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
