//! The candles of all symbols that can still change.

use std::collections::HashMap;

use nats::{LiveMessage, NewMessage};
use schemas::{CandleUpdate, Symbol, calendar::Calendars};
use tokio::time::Instant;

use super::{
    CandlesConfig,
    clock::Clocks,
    output,
    saved::{Saved, Snapshot},
    series::{Forgotten, Outcome, Series, Stored},
    trade::Trade,
};

/// A candle to publish.
pub(super) type Emission = (Stored, NewMessage);

/// How many symbols are forgotten at a time, for their keys are deleted one by one.
const MAX_FORGOTTEN_AT_ONCE: usize = 4_096;

/// The candles of all symbols, and the clocks they are closed by. It knows neither a broker nor a
/// bucket.
pub(super) struct Book<'a> {
    config: &'a CandlesConfig,
    calendars: &'a Calendars,
    max_symbols: usize,
    clocks: Clocks,
    series: HashMap<Symbol, Series>,
    forgotten: Forgotten,
}

impl<'a> Book<'a> {
    /// It has candles of so many symbols at most.
    pub(super) fn new(
        config: &'a CandlesConfig,
        calendars: &'a Calendars,
        max_symbols: usize,
    ) -> Self {
        let (clocks, series, forgotten) = Default::default();
        Self { config, calendars, max_symbols, clocks, series, forgotten }
    }

    /// Takes a trade in, and closes the candles of its symbol whose time it shows to be over.
    pub(super) fn take(
        &mut self,
        trade: &Trade,
        now: Instant,
        publish: &mut impl Extend<Emission>,
    ) -> Outcome {
        self.clocks.advance(&trade.source, trade.print.ts, now);
        let calendar = self.calendars.of(&trade.source);
        let is_full = self.series.len() >= self.max_symbols;
        let series = match self.series.get_mut(&trade.symbol) {
            Some(series) => series,
            None if is_full => return Outcome::Crowded,
            None => self
                .series
                .entry(trade.symbol.clone())
                .or_insert_with(|| Series::new(trade.symbol.clone(), now)),
        };
        let outcome = series.take(trade, now, self.config, calendar, &self.forgotten);
        if series.has_passed() {
            series.close(self.config, |update| publish.extend([emission(update)]));
        }
        outcome
    }

    /// Closes, states anew and lets go of what is due, until there are `limit` candles to publish.
    pub(super) fn sweep(&mut self, now: Instant, limit: usize) -> Vec<Emission> {
        let mut publish = Vec::new();
        for series in self.series.values_mut() {
            if publish.len() >= limit {
                break;
            }
            let clock = series.clock_at(now, &self.clocks, self.config);
            if series.is_due(clock) {
                series.settle(clock, true, self.config, |update| publish.push(emission(update)));
            }
        }
        publish
    }

    /// The running candles that have changed since the last time.
    pub(super) fn running(&mut self) -> Vec<LiveMessage> {
        let every = u128::from(self.config.running_ms);
        let shown =
            |interval: &&_| schemas::CandleInterval::duration(**interval).as_millis() > every;
        let mut messages = Vec::new();
        for series in self.series.values_mut().filter(|series| series.is_running) {
            series.is_running = false;
            let running = self.config.intervals.iter().filter(shown);
            let running = running.filter_map(|interval| series.running(*interval));
            messages.extend(running.map(|update| output::running(&update)));
        }
        messages
    }

    /// A candle is stored at this sequence of `CANDLES`.
    pub(super) fn confirm(&mut self, stored: &Stored, sequence: u64) {
        if let Some(series) = self.series.get_mut(&stored.symbol) {
            series.confirm(stored, sequence);
        }
    }

    /// The oldest sequence of `CANDLES` that is needed to go on from what is saved.
    pub(super) fn oldest_stored(&self) -> Option<u64> {
        self.series.values().filter_map(Series::oldest_stored).min()
    }

    /// What has changed since it was saved, with the revision it was saved as.
    pub(super) fn unsaved(&self) -> impl Iterator<Item = (&Symbol, Snapshot, Option<u64>)> {
        let unsaved = self.series.iter().filter(|(_, series)| series.is_unsaved);
        unsaved.map(|(symbol, series)| (symbol, series.snapshot(), series.saved_revision))
    }

    /// A symbol is saved as it is now.
    pub(super) fn saved(&mut self, symbol: &Symbol, revision: u64) {
        if let Some(series) = self.series.get_mut(symbol) {
            (series.is_unsaved, series.saved_revision) = (false, Some(revision));
        }
    }

    /// Makes room for new symbols, in good time: forgets some of those of which no candle can change
    /// any more, those that are silent for longest. With the revisions of their keys, which may be
    /// deleted once [`forgotten`](Self::forgotten) is saved.
    pub(super) fn make_room(&mut self, now: Instant) -> Vec<(Symbol, Option<u64>)> {
        let count = self.series.len();
        if count <= self.max_symbols / 4 * 3 {
            return Vec::new();
        }
        let idle = |(symbol, series): (&Symbol, &Series)| Some((series.idle(now)?, symbol.clone()));
        let mut idle: Vec<_> = self.series.iter().filter_map(idle).collect();
        idle.sort_unstable_by(|a, b| b.cmp(a));
        idle.truncate((count - self.max_symbols / 2).min(MAX_FORGOTTEN_AT_ONCE));
        let mut forget = |(_, symbol): (_, Symbol)| {
            let revision = self.series.remove(&symbol)?.forget(&mut self.forgotten);
            Some((symbol, revision))
        };
        idle.into_iter().filter_map(&mut forget).collect()
    }

    /// How far the time of those had come that are forgotten: their candles must not begin again.
    pub(super) fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// Goes on from what was saved of those that are forgotten.
    pub(super) fn resume_forgotten(&mut self, forgotten: Forgotten) {
        self.forgotten = forgotten;
    }

    /// Goes on from what was saved.
    pub(super) fn resume(&mut self, saved: Vec<Saved>, now: Instant) {
        for Saved { symbol, snapshot, revision } in saved {
            let mut series = Series::new(symbol.clone(), now);
            series.resume(snapshot, revision, self.calendars);
            self.series.insert(symbol, series);
        }
    }

    /// Takes over a closed candle that is stored at this sequence of `CANDLES`.
    pub(super) fn restore(&mut self, update: CandleUpdate, sequence: u64, now: Instant) {
        let symbol = &update.candle.symbol;
        let series =
            self.series.entry(symbol.clone()).or_insert_with(|| Series::new(symbol.clone(), now));
        series.restore(update, sequence);
    }
}

fn emission(update: CandleUpdate) -> Emission {
    let message = output::closed(&update);
    let CandleUpdate { candle, revision, .. } = update;
    let (symbol, interval, start) = (candle.symbol, candle.interval, candle.start);
    (Stored { symbol, interval, start, revision }, message)
}
