//! What the rules remember of the ticks before an event.

use std::collections::HashMap;

use jiff::Timestamp;
use schemas::{
    Decimal, Source, Symbol, Tick,
    calendar::{Calendar, Day},
};

use super::{
    history::{CONFIRMED_WITHIN, History, Horizon, Ordinal, Place},
    memory::Memory,
    outlier::Estimate,
};

/// How many symbols are remembered. Beyond it those that have been quiet for longest are
/// forgotten, at least a quarter of them.
const MAX_SYMBOLS: usize = 100_000;

/// What the rules remember. It depends on nothing but
///
/// - the newest ticks before the event, as many as its capacity,
/// - the newest tick before the event of each symbol,
/// - the outliers that were rejected in the [`CONFIRMED_WITHIN`] payloads before the event,
///
/// so it can be made again from the streams: first [`newest`](Self::newest), then
/// [`tick`](Self::tick), then [`rejected_outlier`](Self::rejected_outlier).
pub(crate) struct State {
    ids: Memory,
    /// How many ticks there were.
    ticks: Ordinal,
    symbols: HashMap<Symbol, History>,
    /// The trading day that was needed last: most events are of the same.
    day: Option<(Calendar, Day)>,
}

impl State {
    /// Remembers nothing yet, and in future so many ticks.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { ids: Memory::new(capacity), ticks: 0, symbols: HashMap::new(), day: None }
    }

    /// How many of the newest ticks it depends on.
    pub(crate) fn capacity(&self) -> usize {
        self.ids.capacity()
    }

    /// A copy of what concerns these symbols and ids: of anything else it knows nothing.
    pub(crate) fn excerpt<'a>(
        &self,
        symbols: impl Iterator<Item = &'a Symbol>,
        ids: &[String],
    ) -> Self {
        let history = |symbol: &Symbol| Some((symbol.clone(), self.symbols.get(symbol)?.clone()));
        Self {
            ids: self.ids.excerpt(ids),
            ticks: self.ticks,
            symbols: symbols.filter_map(history).collect(),
            day: self.day,
        }
    }

    /// Remembers the newest tick of its symbol, where that is older than those that
    /// [`tick`](Self::tick) is told of; as long as there is room, so the newest of them comes first.
    pub(crate) fn newest(&mut self, tick: &Tick, place: Place) {
        if self.symbols.len() < MAX_SYMBOLS {
            self.symbols.entry(tick.symbol.clone()).or_default().add(0, tick, place);
        }
    }

    /// Remembers the next tick.
    pub(crate) fn tick(&mut self, tick: &Tick, place: Place) {
        self.ids.remember(&tick.id);
        self.ticks += 1;
        self.make_room(&tick.symbol);
        if let Some(history) = self.symbols.get_mut(&tick.symbol) {
            history.add(self.ticks, tick, place);
        } else {
            self.symbols.entry(tick.symbol.clone()).or_default().add(self.ticks, tick, place);
        }
    }

    /// Remembers an event that was rejected as an outlier.
    pub(crate) fn rejected_outlier(&mut self, symbol: &Symbol, price: Decimal, place: Place) {
        if let Some(history) = self.symbols.get_mut(symbol) {
            history.add_rejected(price.approximate().ln(), place);
        }
    }

    /// Whether the event is one of the newest ticks already.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Where the price of a symbol is, as far as is known.
    pub(super) fn estimate(
        &self,
        symbol: &Symbol,
        ts: Timestamp,
        granularity: f64,
        raw_seq: u64,
    ) -> Option<Estimate> {
        self.symbols.get(symbol)?.estimate(self.horizon(raw_seq), ts, granularity)
    }

    /// Whether an outlier confirms those before it.
    pub(super) fn confirms(
        &self,
        symbol: &Symbol,
        price: f64,
        granularity: f64,
        raw_seq: u64,
    ) -> bool {
        let horizon = self.horizon(raw_seq);
        let history = self.symbols.get(symbol);
        history.is_some_and(|history| history.confirms(price, horizon, granularity))
    }

    /// The event time of the newest tick of a symbol and source.
    pub(super) fn newest_of(
        &self,
        symbol: &Symbol,
        source: &Source,
        raw_seq: u64,
    ) -> Option<Timestamp> {
        self.symbols.get(symbol)?.newest_of(source, self.horizon(raw_seq))
    }

    /// The sessions of the day of a time; `None` where there are none.
    pub(super) fn day(&mut self, calendar: Calendar, ts: Timestamp) -> Option<Day> {
        match &self.day {
            Some((of, day)) if *of == calendar && (day.opens..day.closes).contains(&ts) => {
                Some(*day)
            }
            _ => {
                let day = calendar.day(calendar.date(ts))?;
                self.day = Some((calendar, day));
                Some(day)
            }
        }
    }

    fn horizon(&self, raw_seq: u64) -> Horizon {
        let capacity = Ordinal::try_from(self.ids.capacity()).unwrap_or(Ordinal::MAX);
        Horizon {
            oldest: (self.ticks + 1).saturating_sub(capacity),
            raw_seq: raw_seq.saturating_sub(CONFIRMED_WITHIN),
        }
    }

    fn make_room(&mut self, symbol: &Symbol) {
        if self.symbols.len() < MAX_SYMBOLS || self.symbols.contains_key(symbol) {
            return;
        }
        let mut newest: Vec<Ordinal> = self.symbols.values().map(History::newest).collect();
        newest.sort_unstable();
        if let Some(quiet) = newest.get(MAX_SYMBOLS / 4).copied() {
            self.symbols.retain(|_, history| history.newest() > quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::{Flag, TickKind, event_id};

    use super::*;

    fn tick(number: u64, symbol: &str, price: u64, flags: &[Flag]) -> Tick {
        Tick {
            id: event_id(&number.to_string(), 0),
            symbol: Symbol::new(symbol).unwrap(),
            price: Decimal::parse(&price.to_string()).unwrap(),
            size: None,
            currency: "USD".into(),
            exchange: None,
            kind: TickKind::Trade,
            ts: Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
            received_at: Timestamp::UNIX_EPOCH,
            source: Source::new("sim").unwrap(),
            raw_seq: number,
            flags: flags.to_vec(),
        }
    }

    #[test]
    fn symbols_are_forgotten_when_there_are_too_many() {
        let mut state = State::new(0);
        for number in 0..MAX_SYMBOLS as u64 + 1 {
            state.tick(&tick(number, &format!("S{number}"), 1, &[]), (number, 0));
        }
        assert!(state.symbols.len() <= MAX_SYMBOLS - MAX_SYMBOLS / 4 + 1);
        let newest = Symbol::new(&format!("S{MAX_SYMBOLS}")).unwrap();
        assert!(state.symbols.contains_key(&newest));
    }

    /// A tick, or an outlier that was rejected, of one of few symbols.
    #[derive(Debug, Clone)]
    enum Event {
        Tick(usize, u64, &'static [Flag]),
        Rejected(usize, u64),
    }

    const SYMBOLS: [&str; 3] = ["A", "B", "C"];

    fn event() -> impl Strategy<Value = Event> {
        let flags = prop_oneof![
            6 => Just(&[][..]),
            2 => Just(&[Flag::Outlier][..]),
            1 => Just(&[Flag::LevelShift][..]),
            1 => Just(&[Flag::OutOfOrder][..]),
        ];
        prop_oneof![
            // One symbol is quiet, and so falls out of the newest ticks.
            8 => (0..2_usize, 95..105_u64, flags.clone()).prop_map(|(s, p, f)| Event::Tick(s, p, f)),
            1 => (2..3_usize, 95..105_u64, flags).prop_map(|(s, p, f)| Event::Tick(s, p, f)),
            2 => (0..3_usize, 195..205_u64).prop_map(|(s, p)| Event::Rejected(s, p)),
        ]
    }

    proptest! {
        /// The promise of [`State`]: made again from the streams it gives the same judgements.
        #[test]
        fn made_again_it_is_the_same(events in proptest::collection::vec(event(), 0..60), capacity in 0..12_usize) {
            let mut running = State::new(capacity);
            let mut ticks = Vec::new();
            let mut rejected = Vec::new();
            for (number, event) in (1..).zip(&events) {
                let place = (number, 0);
                match *event {
                    Event::Tick(symbol, price, flags) => {
                        let tick = tick(number, SYMBOLS[symbol], price, flags);
                        running.tick(&tick, place);
                        ticks.push(tick);
                    }
                    Event::Rejected(symbol, price) => {
                        let symbol = Symbol::new(SYMBOLS[symbol]).unwrap();
                        let price = Decimal::parse(&price.to_string()).unwrap();
                        running.rejected_outlier(&symbol, price, place);
                        rejected.push((symbol, price, place));
                    }
                }
            }
            let mut again = State::new(capacity);
            let (older, newer) = ticks.split_at(ticks.len().saturating_sub(capacity));
            for symbol in SYMBOLS {
                if let Some(newest) = older.iter().rfind(|tick| tick.symbol.as_str() == symbol) {
                    again.newest(newest, (newest.raw_seq, 0));
                }
            }
            for tick in newer {
                again.tick(tick, (tick.raw_seq, 0));
            }
            for (symbol, price, place) in &rejected {
                again.rejected_outlier(symbol, *price, *place);
            }
            let (ts, source) = (Timestamp::from_second(100).unwrap(), Source::new("sim").unwrap());
            for symbol in SYMBOLS.map(|symbol| Symbol::new(symbol).unwrap()) {
                prop_assert_eq!(
                    running.estimate(&symbol, ts, 0.03, 100),
                    again.estimate(&symbol, ts, 0.03, 100)
                );
                prop_assert_eq!(
                    running.newest_of(&symbol, &source, 100),
                    again.newest_of(&symbol, &source, 100)
                );
                for price in [100_f64, 200.0] {
                    prop_assert_eq!(
                        running.confirms(&symbol, price.ln(), 0.06, 100),
                        again.confirms(&symbol, price.ln(), 0.06, 100)
                    );
                }
            }
            for tick in &ticks {
                prop_assert_eq!(running.contains(&tick.id), again.contains(&tick.id));
            }
        }
    }
}
