//! The candles that one connection follows.

use std::{collections::BTreeMap, sync::Arc};

use schemas::{CandleInterval, ClientError, ErrorCode};

use super::{request::shorten, voice::Voice};
use crate::{
    candles::{CandleFrame, CandleHub, CandleQueue},
    hub::Selector,
};

/// The longest name of an interval that an error repeats, in characters.
const REPEATED: usize = 20;

/// The candles that one connection follows. They end when this is dropped.
pub(super) struct Candles {
    hub: Arc<CandleHub>,
    capacity: usize,
    /// `None` while it follows none.
    queue: Option<Arc<CandleQueue>>,
}

impl Candles {
    pub(super) fn new(hub: Arc<CandleHub>, capacity: usize) -> Self {
        Self { hub, capacity, queue: None }
    }

    /// Follows the candles of these lengths and symbols, too. Returns the newest of them.
    pub(super) fn follow(
        &mut self,
        intervals: &[CandleInterval],
        selectors: &[Selector],
    ) -> Vec<Arc<CandleFrame>> {
        if intervals.is_empty() || selectors.is_empty() {
            return Vec::new();
        }
        let queue = self.queue.get_or_insert_with(|| CandleQueue::new(self.capacity));
        self.hub.subscribe(queue, intervals, selectors)
    }

    /// Follows the candles of these lengths and symbols no longer.
    pub(super) fn forget(&mut self, intervals: &[CandleInterval], selectors: &[Selector]) {
        if let Some(queue) = &self.queue {
            self.hub.unsubscribe(queue, intervals, selectors);
        }
    }

    /// What is followed, by length.
    pub(super) fn follows(&self) -> BTreeMap<String, Vec<String>> {
        let follows = self.queue.as_ref().map(|queue| queue.follows()).unwrap_or_default();
        follows.into_iter().map(|(interval, names)| (interval.to_string(), names)).collect()
    }

    pub(super) fn queue(&self) -> Option<Arc<CandleQueue>> {
        self.queue.clone()
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.has_overflowed())
    }

    /// Writes candles that wait, at most `count`. False where there are none.
    pub(super) fn forward(&self, voice: &Voice, count: usize) -> bool {
        let frames = self.queue.as_ref().map(|queue| queue.take(count)).unwrap_or_default();
        send(voice, &frames);
        !frames.is_empty()
    }
}

impl Drop for Candles {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            self.hub.leave(queue);
        }
    }
}

/// Writes candles past the queue.
pub(super) fn send(voice: &Voice, frames: &[Arc<CandleFrame>]) {
    for frame in frames {
        voice.pipe().send(frame.bytes(voice.pipe().format).clone());
    }
}

/// The lengths that a request names. A bad one is answered with an error, and spoils no other.
pub(super) fn intervals(
    names: &[String],
    id: Option<&String>,
) -> (Vec<CandleInterval>, Vec<ClientError>) {
    let (mut intervals, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match name.parse::<CandleInterval>() {
            Ok(interval) if intervals.contains(&interval) => {}
            Ok(interval) => intervals.push(interval),
            Err(_) => errors.push(ClientError {
                message: format!(
                    "Invalid candle interval: {}; there are 1s, 5s, 1m, 5m, 15m, 1h and 1d",
                    shorten(name, REPEATED)
                ),
                code: ErrorCode::InvalidInterval,
                id: id.cloned(),
                symbols: Vec::new(),
            }),
        }
    }
    (intervals, errors)
}
