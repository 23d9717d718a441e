//! All candles of one symbol that can still change.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use schemas::{
    CandleBuilder, CandleInterval, CandleUpdate, Source, Symbol,
    calendar::{Calendar, Calendars},
};
use tokio::time::Instant;

use super::{CandlesConfig, clock::Clocks, saved::Snapshot, trade::Trade, window::Window};

/// What became of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in all its candles.
    Counted,
    /// At least one of its candles was not waited for any longer.
    Late,
    /// It cannot be added exactly, or its time is at the end of time.
    Inexact,
    /// There are too many symbols already.
    Crowded,
}

/// How far the clocks of the symbols had come that are forgotten, by their source.
pub(super) type Forgotten = HashMap<Source, Timestamp>;

/// The candles of a symbol, by interval and then by start.
pub(super) struct Series {
    symbol: Symbol,
    /// Of its newest trade.
    source: Option<Source>,
    /// How far its event time has come. It never goes back: what was let go by it stays so.
    clock: Timestamp,
    /// Its newest event time that was read, and when.
    newest: Timestamp,
    read_at: Instant,
    windows: [VecDeque<Window>; CandleInterval::ALL.len()],
    /// Before this event time there is nothing to close or to let go.
    due: Timestamp,
    has_stale: bool,
    /// Changed since the running candles were last published.
    pub(super) is_running: bool,
    /// Changed since it was last saved.
    pub(super) is_unsaved: bool,
    /// The revision of its key in the bucket.
    pub(super) saved_revision: Option<u64>,
}

impl Series {
    pub(super) fn new(symbol: Symbol, now: Instant) -> Self {
        Self {
            symbol,
            source: None,
            clock: Timestamp::MIN,
            newest: Timestamp::MIN,
            read_at: now,
            windows: Default::default(),
            due: Timestamp::MAX,
            has_stale: false,
            is_running: false,
            is_unsaved: false,
            saved_revision: None,
        }
    }

    /// Its event time: that of its own trades and, once it has been silent for a while, that of its
    /// source, for a source need not be in the same order across its symbols.
    pub(super) fn clock_at(
        &self,
        now: Instant,
        clocks: &Clocks,
        config: &CandlesConfig,
    ) -> Timestamp {
        let silent = now.duration_since(self.read_at);
        if silent.as_millis() < u128::from(config.grace_ms) {
            return self.clock;
        }
        let silent = SignedDuration::try_from(silent).unwrap_or(SignedDuration::MAX);
        let of_source = self.source.as_ref().map(|source| clocks.at(source, now));
        after(self.newest, silent).max(of_source.unwrap_or(Timestamp::MIN)).max(self.clock)
    }

    /// Takes a trade in.
    pub(super) fn take(
        &mut self,
        trade: &Trade,
        now: Instant,
        config: &CandlesConfig,
        calendar: Calendar,
        forgotten: &Forgotten,
    ) -> Outcome {
        if self.source.is_none()
            && let Some(clock) = forgotten.get(&trade.source)
        {
            self.clock = self.clock.max(*clock);
        }
        if self.source.as_ref() != Some(&trade.source) {
            self.source = Some(trade.source.clone());
        }
        self.read_at = now;
        self.newest = self.newest.max(trade.print.ts);
        self.clock = self.clock.max(self.newest);
        let mut outcome = Outcome::Counted;
        for interval in &config.intervals {
            let windows = &mut self.windows[*interval as usize];
            // Most trades are of the newest candle.
            match windows.iter_mut().rev().find(|window| window.holds(trade.print.ts)) {
                Some(window) => {
                    if !window.add(&trade.print, trade.seq) {
                        outcome = Outcome::Inexact;
                    }
                    self.has_stale |= window.is_stale();
                }
                None => match open(&self.symbol, trade, *interval, calendar) {
                    Some(window) if passed(window.end(), config.lateness(), self.clock) => {
                        outcome = Outcome::Late;
                    }
                    Some(window) => {
                        self.due = self.due.min(after(window.closes, config.grace()));
                        insert(windows, window);
                    }
                    None => outcome = Outcome::Inexact,
                },
            }
        }
        self.is_running = true;
        self.is_unsaved = true;
        outcome
    }

    /// Whether there is something to close, to state anew or to let go.
    pub(super) fn is_due(&self, clock: Timestamp) -> bool {
        self.has_stale || clock >= self.due
    }

    /// Whether its own trades show that there is something to close or to let go.
    pub(super) fn has_passed(&self) -> bool {
        self.clock >= self.due
    }

    /// Closes the candles that its own trades show to be over.
    pub(super) fn close(&mut self, config: &CandlesConfig, publish: impl FnMut(CandleUpdate)) {
        self.settle(self.clock, false, config, publish);
    }

    /// Closes the candles whose time is over at that event time, states those anew that late trades have changed if
    /// `restate` says so, and lets go of those that no trade can be late for any more.
    pub(super) fn settle(
        &mut self,
        clock: Timestamp,
        restate: bool,
        config: &CandlesConfig,
        mut publish: impl FnMut(CandleUpdate),
    ) {
        self.due = Timestamp::MAX;
        self.has_stale &= !restate;
        for windows in &mut self.windows {
            for window in windows.iter_mut() {
                let is_over = window.is_running() && passed(window.closes, config.grace(), clock);
                if is_over || (restate && window.is_stale()) {
                    publish(window.close());
                    (self.clock, self.is_unsaved) = (self.clock.max(clock), true);
                }
            }
            while let Some(oldest) = windows.front()
                && oldest.is_settled()
                && passed(oldest.end(), config.lateness(), clock)
            {
                windows.pop_front();
                (self.clock, self.is_unsaved) = (self.clock.max(clock), true);
            }
            for window in windows.iter() {
                let next = match window.is_running() {
                    true => after(window.closes, config.grace()),
                    false => after(window.end(), config.lateness()),
                };
                self.due = self.due.min(next);
            }
        }
    }

    /// A revision of a candle is stored at this sequence of `CANDLES`.
    pub(super) fn confirm(&mut self, stored: &Stored, sequence: u64) {
        let windows = &mut self.windows[stored.interval as usize];
        if let Some(window) = windows.iter_mut().find(|window| window.start() == stored.start) {
            window.confirm(stored.revision, sequence);
        }
    }

    /// The oldest sequence of `CANDLES` that one of its closed candles is stored at.
    pub(super) fn oldest_stored(&self) -> Option<u64> {
        self.windows.iter().flatten().filter_map(Window::stored).min()
    }

    /// None of its candles can change any more, and that is saved: how long nothing was read of it.
    pub(super) fn idle(&self, now: Instant) -> Option<Duration> {
        let is_idle = !self.is_unsaved && self.windows.iter().all(VecDeque::is_empty);
        is_idle.then(|| now.duration_since(self.read_at))
    }

    /// Leaves nothing but how far it had come; the revision of its key.
    pub(super) fn forget(self, forgotten: &mut Forgotten) -> Option<u64> {
        if let Some(source) = self.source {
            let clock = forgotten.entry(source).or_insert(self.clock);
            *clock = self.clock.max(*clock);
        }
        self.saved_revision
    }

    /// The newest of the candles of an interval that is running.
    pub(super) fn running(&self, interval: CandleInterval) -> Option<CandleUpdate> {
        let newest = self.windows[interval as usize].back()?;
        newest.is_running().then(|| newest.update())
    }

    /// What is saved of it: closed candles are in `CANDLES`.
    pub(super) fn snapshot(&self) -> Snapshot {
        let running = self.windows.iter().flatten().filter(|window| window.is_running());
        Snapshot {
            clock: self.clock,
            source: self.source.clone(),
            running: running.map(Window::update).collect(),
        }
    }

    /// Goes on from what was saved.
    pub(super) fn resume(&mut self, snapshot: Snapshot, revision: u64, calendars: &Calendars) {
        (self.clock, self.newest) = (snapshot.clock, snapshot.clock);
        self.source = snapshot.source;
        self.saved_revision = Some(revision);
        self.due = Timestamp::MIN;
        let calendar = self.source.as_ref().map_or(Calendar::Always, |source| calendars.of(source));
        for update in snapshot.running {
            let span = (update.candle.start, update.candle.end);
            let closes = closing_time(update.candle.interval, span, calendar);
            let windows = &mut self.windows[update.candle.interval as usize];
            insert(windows, Window::resume(update, closes, None));
        }
    }

    /// Takes over a closed candle that is stored at this sequence of `CANDLES`.
    pub(super) fn restore(&mut self, update: CandleUpdate, sequence: u64) {
        self.newest = self.newest.max(update.candle.last_trade);
        self.clock = self.clock.max(self.newest);
        self.due = Timestamp::MIN;
        self.is_unsaved = true;
        let windows = &mut self.windows[update.candle.interval as usize];
        let (start, closes) = (update.candle.start, update.candle.end);
        let known = windows.iter().position(|window| window.start() == start);
        match known.and_then(|place| windows.get_mut(place)) {
            Some(window) if window.revision() < update.revision => {
                *window = Window::resume(update, closes, Some(sequence));
            }
            Some(_) => {}
            None => insert(windows, Window::resume(update, closes, Some(sequence))),
        }
    }
}

/// Which revision of which candle a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) symbol: Symbol,
    pub(super) interval: CandleInterval,
    pub(super) start: Timestamp,
    pub(super) revision: u32,
}

fn insert(windows: &mut VecDeque<Window>, window: Window) {
    let place = windows.partition_point(|other| other.start() < window.start());
    windows.insert(place, window);
}

/// A candle of its first trade.
fn open(
    symbol: &Symbol,
    trade: &Trade,
    interval: CandleInterval,
    calendar: Calendar,
) -> Option<Window> {
    let span = interval.span_in(calendar, trade.print.ts)?;
    let closes = closing_time(interval, span, calendar);
    let builder = CandleBuilder::new(symbol.clone(), interval, span, &trade.print);
    Some(Window::new(builder, closes, trade.seq))
}

/// When the trading of a candle is over: a day's is with its last session.
fn closing_time(
    interval: CandleInterval,
    (start, end): (Timestamp, Timestamp),
    calendar: Calendar,
) -> Timestamp {
    match interval {
        CandleInterval::OneDay => calendar.day(calendar.date(start)).map_or(end, |day| day.closes),
        _ => end,
    }
}

fn after(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn passed(time: Timestamp, wait: SignedDuration, clock: Timestamp) -> bool {
    clock >= after(time, wait)
}
