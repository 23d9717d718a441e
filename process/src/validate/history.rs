//! What is remembered of one symbol.

use std::collections::VecDeque;

use jiff::Timestamp;
use schemas::{Flag, Source, Tick};

use super::outlier::{self, CONFIRMATIONS, Estimate, WINDOW};

/// Ticks are numbered as they come, from 1 on; those that were read as the newest of their symbol
/// only have the number 0.
pub(super) type Ordinal = u64;

/// Where an event stands: the sequence of its payload, and its number in there.
pub(crate) type Place = (u64, usize);

/// How many raw payloads later an outlier that was rejected counts no more towards a new level: so
/// far back rejections are read again after a restart.
pub(crate) const CONFIRMED_WITHIN: u64 = 100_000;

/// How many sources of one symbol are told apart.
const MAX_SOURCES: usize = 8;

/// Of the ticks of a symbol: the newest, and what is needed of those among the newest of all
/// symbols. What is older is passed over, even where it is still there: so what a history says
/// depends on nothing but those ticks, and is the same after a restart.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    newest: Option<(Ordinal, Place)>,
    /// The newest accepted prices since the last change of level, oldest first; at most [`WINDOW`].
    accepted: VecDeque<(Ordinal, f64)>,
    /// The newest accepted tick.
    last_accepted: Option<(Ordinal, f64, Timestamp)>,
    /// The outliers in a row, oldest first, at most [`CONFIRMATIONS`] - 1.
    outliers: VecDeque<Outlier>,
    /// The newest tick of each source that was neither out of order nor of the future.
    in_order: Vec<(Ordinal, Source, Timestamp)>,
}

#[derive(Debug, Clone, Copy)]
struct Outlier {
    /// `None` where it was rejected.
    ordinal: Option<Ordinal>,
    raw_seq: u64,
    price: f64,
}

/// From which on ticks and payloads count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    pub(super) oldest: Ordinal,
    pub(super) raw_seq: u64,
}

impl History {
    /// Adds the next tick of the symbol.
    pub(super) fn add(&mut self, ordinal: Ordinal, tick: &Tick, place: Place) {
        let price = tick.price.approximate().ln();
        let is = |flag| tick.flags.contains(&flag);
        self.newest = Some((ordinal, place));
        if is(Flag::Outlier) {
            self.outliers.retain(|outlier| outlier.ordinal.is_some());
            self.push(Outlier { ordinal: Some(ordinal), raw_seq: tick.raw_seq, price });
        } else {
            if is(Flag::LevelShift) {
                self.accepted.clear();
            }
            if self.accepted.len() == WINDOW {
                self.accepted.pop_front();
            }
            self.accepted.push_back((ordinal, price));
            self.last_accepted = Some((ordinal, price, tick.ts));
            self.outliers.clear();
        }
        // What follows one of the future is not late.
        if !is(Flag::OutOfOrder) && !is(Flag::Future) {
            self.follow(ordinal, tick);
        }
    }

    /// The tick is the newest of its source. The source of the newest is the last.
    fn follow(&mut self, ordinal: Ordinal, tick: &Tick) {
        match self.in_order.iter().position(|(_, source, _)| *source == tick.source) {
            Some(known) => self.in_order[known..].rotate_left(1),
            None => {
                if self.in_order.len() == MAX_SOURCES {
                    self.in_order.remove(0);
                }
                self.in_order.push((ordinal, tick.source.clone(), tick.ts));
            }
        }
        if let Some((newest, _, ts)) = self.in_order.last_mut() {
            (*newest, *ts) = (ordinal, tick.ts);
        }
    }

    /// Adds an outlier that was rejected. One from before the newest tick counts no more.
    pub(super) fn add_rejected(&mut self, price: f64, place: Place) {
        if self.newest.is_none_or(|(_, newest)| newest < place) {
            self.push(Outlier { ordinal: None, raw_seq: place.0, price });
        }
    }

    fn push(&mut self, outlier: Outlier) {
        if self.outliers.len() == CONFIRMATIONS - 1 {
            self.outliers.pop_front();
        }
        self.outliers.push_back(outlier);
    }

    /// The number of the newest tick.
    pub(super) fn newest(&self) -> Ordinal {
        self.newest.map_or(0, |(ordinal, _)| ordinal)
    }

    fn counts(&self, ordinal: Ordinal, horizon: Horizon) -> bool {
        ordinal >= horizon.oldest || ordinal == self.newest()
    }

    /// Where the price is; `None` where nothing is known.
    pub(super) fn estimate(
        &self,
        horizon: Horizon,
        now: Timestamp,
        granularity: f64,
    ) -> Option<Estimate> {
        let (newest, _, ts) =
            self.last_accepted.filter(|(ordinal, ..)| self.counts(*ordinal, horizon))?;
        let accepted = self
            .accepted
            .iter()
            .filter(|(ordinal, _)| *ordinal >= horizon.oldest || *ordinal == newest)
            .map(|(_, price)| *price);
        outlier::estimate(accepted, ts, now, granularity)
    }

    /// Whether this outlier and enough of those before it agree upon a new level.
    pub(super) fn confirms(&self, price: f64, horizon: Horizon, granularity: f64) -> bool {
        let agreeing = self.outliers.iter().filter(|outlier| {
            let counts = match outlier.ordinal {
                Some(ordinal) => self.counts(ordinal, horizon),
                None => outlier.raw_seq >= horizon.raw_seq,
            };
            counts && (outlier.price - price).abs() <= granularity
        });
        agreeing.count() + 1 >= CONFIRMATIONS
    }

    /// The event time of the newest tick of a source.
    pub(super) fn newest_of(&self, source: &Source, horizon: Horizon) -> Option<Timestamp> {
        self.in_order
            .iter()
            .find(|(ordinal, of, _)| of == source && self.counts(*ordinal, horizon))
            .map(|(.., ts)| *ts)
    }
}
