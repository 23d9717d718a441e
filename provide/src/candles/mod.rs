//! Candles for WebSocket clients: those that close come from the stream `CANDLES`, those that run
//! from plain NATS.
//!
//! A candle is a message in a second, not a thousand: there is one queue per client, and a candle is
//! offered to every client that follows its interval. As prices, each is encoded once.

mod feed;
mod frame;
mod queue;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemas::{CandleInterval, Symbol};

use crate::hub::{Interest, Selector};

pub(crate) use feed::follow;
pub(crate) use frame::CandleFrame;
pub(crate) use queue::CandleQueue;

/// Knows the newest candles, and who wants the next.
#[derive(Debug, Default)]
pub(crate) struct CandleHub(Mutex<[OfInterval; CandleInterval::ALL.len()]>);

/// Everything about the candles of one length.
#[derive(Debug, Default)]
struct OfInterval {
    newest: HashMap<Symbol, Newest>,
    queues: Vec<Arc<CandleQueue>>,
}

/// The newest candles of one symbol.
#[derive(Debug, Default)]
struct Newest {
    closed: Option<Arc<CandleFrame>>,
    running: Option<Arc<CandleFrame>>,
}

impl Newest {
    /// Takes a candle in; false where it says nothing new, because its candle is closed.
    fn take(&mut self, frame: &Arc<CandleFrame>) -> bool {
        let closed = self.closed.as_ref().map(|closed| closed.start);
        if !frame.closed {
            let is_new = closed.is_none_or(|closed| closed < frame.start);
            if is_new {
                self.running = Some(Arc::clone(frame));
            }
            return is_new;
        }
        // One that is restated may be older than the newest.
        if closed.is_none_or(|closed| closed <= frame.start) {
            self.closed = Some(Arc::clone(frame));
            self.running.take_if(|running| running.start <= frame.start);
        }
        true
    }
}

impl CandleHub {
    /// Takes a candle in, and hands it to all who asked for it.
    pub(crate) fn publish(&self, frame: CandleFrame) {
        let frame = Arc::new(frame);
        let mut all = self.lock();
        let of_interval = &mut all[frame.interval as usize];
        if of_interval.newest.entry(frame.symbol.clone()).or_default().take(&frame) {
            of_interval.queues.iter().for_each(|queue| queue.offer(&frame));
        }
    }

    /// From now on the candles of these lengths and symbols come to that queue. Returns the newest
    /// ones of what did not come before, sorted: every later one comes after them.
    pub(crate) fn subscribe(
        &self,
        queue: &Arc<CandleQueue>,
        intervals: &[CandleInterval],
        selectors: &[Selector],
    ) -> Vec<Arc<CandleFrame>> {
        let mut all = self.lock();
        let mut snapshot = Vec::new();
        for interval in intervals {
            let of_interval = &mut all[*interval as usize];
            if !of_interval.queues.iter().any(|other| Arc::ptr_eq(other, queue)) {
                of_interval.queues.push(Arc::clone(queue));
            }
            let mut fresh = Interest::default();
            for selector in selectors {
                fresh.insert(selector.clone());
            }
            let known = queue.follow(*interval, &fresh);
            let wanted = |symbol: &Symbol| fresh.matches(symbol) && !known.matches(symbol);
            let begin = snapshot.len();
            match fresh.symbols_only() {
                Some(symbols) => {
                    let of = |symbol: &Symbol| of_interval.newest.get(symbol);
                    let newest = symbols.iter().filter(|it| wanted(it)).filter_map(of);
                    snapshot
                        .extend(newest.flat_map(|it| it.closed.iter().chain(&it.running)).cloned());
                }
                None => {
                    let newest = of_interval.newest.iter().filter(|(symbol, _)| wanted(symbol));
                    let frames = newest.flat_map(|(_, it)| it.closed.iter().chain(&it.running));
                    snapshot.extend(frames.cloned());
                }
            }
            snapshot[begin..].sort_by(|a, b| (&a.symbol, a.start).cmp(&(&b.symbol, b.start)));
        }
        snapshot
    }

    /// From now on these no longer come to that queue.
    pub(crate) fn unsubscribe(
        &self,
        queue: &Arc<CandleQueue>,
        intervals: &[CandleInterval],
        selectors: &[Selector],
    ) {
        let mut all = self.lock();
        for interval in intervals {
            if queue.forget(*interval, selectors) {
                all[*interval as usize].queues.retain(|other| !Arc::ptr_eq(other, queue));
            }
        }
    }

    /// Nothing comes to that queue any more.
    pub(crate) fn leave(&self, queue: &Arc<CandleQueue>) {
        for of_interval in self.lock().iter_mut() {
            of_interval.queues.retain(|other| !Arc::ptr_eq(other, queue));
        }
    }

    fn lock(&self) -> MutexGuard<'_, [OfInterval; CandleInterval::ALL.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
