//! The simulator: a random walk for a set of symbols, the same for the same seed.
//!
//! Prices begin where the well-known stocks have been, and move by a cent or two. It never pretends
//! to be a market: the source of every tick is `sim`, its venue `SIM`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use schemas::{Format, RawTick, Source as Name, Symbol, rfc3339_nanos};
use tokio::time::{Instant, sleep_until};

use crate::{
    config::{self, ConfigError, SimConfig},
    source::{FetchError, Session, Source},
};

const MAX_TICKS_PER_SEC: u32 = 1_000_000;

/// After a halt as long as this, the ticks that were not made up are not made up for.
const HALT: Duration = Duration::from_secs(1);

/// Where well-known stocks begin, in cents; others begin between 20 and 500.
const STARTS: [(&str, u64); 12] = [
    ("AAPL", 18_743),
    ("AMD", 14_160),
    ("AMZN", 17_825),
    ("BRK.B", 41_280),
    ("GOOG", 15_219),
    ("GOOGL", 15_087),
    ("JPM", 19_662),
    ("META", 48_410),
    ("MSFT", 41_550),
    ("NVDA", 12_179),
    ("SPY", 52_133),
    ("TSLA", 24_842),
];

/// The simulator.
pub(super) struct Sim {
    name: Name,
    symbols: Vec<Symbol>,
    ticks_per_sec: u32,
    seed: u64,
}

impl Sim {
    pub(super) fn new(config: &SimConfig) -> Result<Self, ConfigError> {
        let ticks_per_sec = config.ticks_per_sec;
        if !(1..=MAX_TICKS_PER_SEC).contains(&ticks_per_sec) {
            let fault = format!("must be 1 to {MAX_TICKS_PER_SEC}, not {ticks_per_sec}");
            return Err(ConfigError::new("sim.ticks_per_sec", fault));
        }
        Ok(Self {
            name: super::source_name("sim"),
            symbols: config::symbols("sim.symbols", &config.symbols)?,
            ticks_per_sec,
            seed: config.seed,
        })
    }
}

#[async_trait]
impl Source for Sim {
    fn name(&self) -> &Name {
        &self.name
    }

    fn can_wait(&self) -> bool {
        true
    }

    fn url(&self) -> String {
        "sim:".to_owned()
    }

    fn symbols(&self) -> Vec<Symbol> {
        self.symbols.clone()
    }

    /// A walk that starts anew: what a run made up is told from the runs before by its start.
    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { mut outlet, mut symbols, .. } = session;
        let run = Timestamp::now().as_microsecond();
        let mut followed = symbols.now();
        let mut walk = Walk::new(self.seed, followed.iter());
        let mut pace = Pace { start: Instant::now(), done: 0, per_sec: self.ticks_per_sec };
        for n in 0_u64.. {
            sleep_until(pace.due()).await;
            let now = symbols.now();
            if !Arc::ptr_eq(&now, &followed) {
                walk.follow(&now);
                followed = now;
            }
            let step = walk.step();
            let now = Timestamp::now();
            let tick = RawTick {
                id: format!("sim:{}:{run}:{n}", self.seed),
                source: self.name.clone(),
                symbol: Some(step.symbol.clone()),
                received_at: now,
                content_type: "application/json".to_owned(),
                format: Format::Sim,
                columns: None,
                body: step.json(now, n),
            };
            outlet.send(tick).await;
            pace.done(Instant::now());
        }
        Ok(())
    }
}

/// When each tick is due, without drift.
struct Pace {
    start: Instant,
    done: u64,
    per_sec: u32,
}

impl Pace {
    fn due(&self) -> Instant {
        let per_sec = u64::from(self.per_sec);
        let (secs, rest) = (self.done / per_sec, self.done % per_sec);
        self.start + Duration::from_secs(secs) + Duration::from_secs(rest) / self.per_sec
    }

    fn done(&mut self, now: Instant) {
        self.done += 1;
        if now.saturating_duration_since(self.due()) > HALT {
            (self.start, self.done) = (now, 0);
        }
    }
}

/// Prices that walk, in cents.
struct Walk {
    random: SmallRng,
    prices: Vec<Price>,
}

struct Price {
    symbol: Symbol,
    start: u64,
    cents: u64,
}

/// One step of one symbol.
struct Step<'a> {
    symbol: &'a Symbol,
    cents: u64,
    size: u32,
}

impl Walk {
    fn new<'a>(seed: u64, symbols: impl Iterator<Item = &'a Symbol>) -> Self {
        let mut walk = Self { random: SmallRng::seed_from_u64(seed), prices: Vec::new() };
        symbols.for_each(|symbol| walk.begin(symbol));
        walk
    }

    fn begin(&mut self, symbol: &Symbol) {
        // Drawn for each, so that the others do not depend on who is well known.
        let drawn = self.random.random_range(2_000..50_000);
        let known = STARTS.iter().find(|(name, _)| *name == symbol.as_str());
        let start = known.map_or(drawn, |&(_, start)| start);
        self.prices.push(Price { symbol: symbol.clone(), start, cents: start });
    }

    /// Others are to walk: those that stay go on from where they are.
    fn follow(&mut self, symbols: &BTreeSet<Symbol>) {
        self.prices.retain(|price| symbols.contains(&price.symbol));
        for symbol in symbols {
            if !self.prices.iter().any(|price| price.symbol == *symbol) {
                self.begin(symbol);
            }
        }
    }

    /// One symbol moves by at most one part in 10,000, or by a cent, and stays between half and
    /// twice of where it began. Most trades are of round lots.
    fn step(&mut self) -> Step<'_> {
        let moved = self.random.random_range(0..self.prices.len());
        // In range: it was drawn from the range.
        let Price { symbol, start, cents } = &mut self.prices[moved];
        let reach = (*cents / 10_000).max(1);
        let walked = *cents - reach + self.random.random_range(0..=2 * reach);
        *cents = walked.clamp(*start / 2, *start * 2);
        let odd = self.random.random_ratio(3, 10);
        let size = self.random.random_range(1..=if odd { 99 } else { 5 });
        Step { symbol, cents: *cents, size: if odd { size } else { 100 * size } }
    }
}

impl Step<'_> {
    /// The payload; the price is written from its cents, digit by digit.
    fn json(&self, ts: Timestamp, n: u64) -> Bytes {
        // A string always becomes JSON.
        let symbol = serde_json::to_string(self.symbol.as_str()).unwrap_or_default();
        let (whole, cents, size) = (self.cents / 100, self.cents % 100, self.size);
        let ts = rfc3339_nanos(ts);
        Bytes::from(format!(
            r#"{{"symbol":{symbol},"price":{whole}.{cents:02},"size":{size},"currency":"USD","exchange":"SIM","ts":"{ts}","n":{n}}}"#
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{start, text};

    fn sim(ticks_per_sec: u32, seed: u64) -> Sim {
        Sim::new(&SimConfig { ticks_per_sec, seed, ..SimConfig::default() }).unwrap()
    }

    fn steps(seed: u64, count: usize) -> Vec<(Symbol, u64, u32)> {
        let mut walk = Walk::new(seed, sim(1, seed).symbols.iter());
        (0..count)
            .map(|_| {
                let step = walk.step();
                (step.symbol.clone(), step.cents, step.size)
            })
            .collect()
    }

    #[test]
    fn the_walk_depends_on_the_seed_alone() {
        assert_eq!(steps(7, 1_000), steps(7, 1_000));
        assert_ne!(steps(7, 1_000), steps(8, 1_000));
    }

    #[test]
    fn who_is_followed_later_joins_and_the_others_walk_on() {
        let symbols =
            |names: &[&str]| names.iter().map(|name| Symbol::new(name).unwrap()).collect();
        let mut walk = Walk::new(1, [Symbol::new("IBM").unwrap()].iter());
        for _ in 0..1_000 {
            walk.step();
        }
        let before = walk.prices[0].cents;
        walk.follow(&symbols(&["IBM", "SPY"]));
        assert_eq!((walk.prices[0].cents, walk.prices[1].cents), (before, 52_133));
        walk.follow(&symbols(&["SPY"]));
        assert!((0..100).all(|_| walk.step().symbol.as_str() == "SPY"));
    }

    #[test]
    fn prices_stay_prices() {
        for (symbol, cents, size) in steps(3, 200_000) {
            assert!((1_000..100_000).contains(&cents), "{symbol} at {cents}");
            assert!((1..=99).contains(&size) || size % 100 == 0 && (100..=500).contains(&size));
        }
    }

    #[test]
    fn well_known_stocks_look_like_themselves() {
        // An hour at the default rate.
        let mut walk = Walk::new(1, sim(1, 1).symbols.iter());
        let mut before: std::collections::HashMap<_, _> = STARTS.into();
        for _ in 0..72_000 {
            let step = walk.step();
            let before = before.get_mut(step.symbol.as_str()).expect("a well-known stock");
            assert!(before.abs_diff(step.cents) <= step.cents / 5_000 + 1);
            *before = step.cents;
        }
        for (symbol, start) in STARTS {
            assert!(before[symbol].abs_diff(start) < start / 10, "{symbol} at {}", before[symbol]);
        }
    }

    #[test]
    fn a_payload_is_written_exactly() {
        let symbol = Symbol::new("A\"B").unwrap();
        let step = Step { symbol: &symbol, cents: 12_305, size: 7 };
        let ts = "2024-01-01T00:00:00.5Z".parse().unwrap();
        assert_eq!(
            text(&step.json(ts, 4)),
            r#"{"symbol":"A\"B","price":123.05,"size":7,"currency":"USD","exchange":"SIM","ts":"2024-01-01T00:00:00.500000000Z","n":4}"#
        );
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_come_smoothly_and_at_the_rate_asked_for() {
        let begin = Instant::now();
        let mut running = start(sim(50, 1), None);
        let mut gaps = Vec::new();
        let mut last = begin;
        for _ in 0..=100 {
            running.next().await;
            gaps.push(last.elapsed().as_millis());
            last = Instant::now();
        }
        assert_eq!(begin.elapsed().as_millis(), 2_000);
        assert!(gaps[1..].iter().all(|gap| (19..=21).contains(gap)), "{gaps:?}");
        running.session.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_high_rate_holds() {
        let begin = Instant::now();
        let mut running = start(sim(100_000, 1), None);
        for _ in 0..50_000 {
            running.next().await;
        }
        assert!((490..=510).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        running.session.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_halt_nothing_is_made_up_for() {
        let mut running = start(sim(100, 1), None);
        running.next().await;
        // Longer than the outlet holds ticks for.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begin = Instant::now();
        for _ in 0..1_000 {
            running.next().await;
        }
        assert!(begin.elapsed() > Duration::from_secs(5), "{:?}", begin.elapsed());
        running.session.abort();
    }

    #[tokio::test]
    async fn two_runs_never_share_an_id() {
        let mut ids = std::collections::HashSet::new();
        for _ in 0..2 {
            let mut running = start(sim(100_000, 1), None);
            for _ in 0..100 {
                let tick = running.next().await;
                assert!(tick.id.starts_with("sim:1:"));
                assert!(ids.insert(tick.id));
            }
            running.session.abort();
        }
    }
}
