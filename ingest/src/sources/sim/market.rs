//! Prices that walk, jump and are halted, in cents.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use schemas::Symbol;
use sha2::{Digest, Sha256};

use super::defects::Draws;
use crate::config::SimConfig;

/// Where well-known stocks begin, in cents; others begin between 20 and 500 dollars.
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

/// What a jump moves a price by, in parts of 10,000: less than what processing takes for an outlier.
const JUMP: std::ops::RangeInclusive<u64> = 50..=250;

/// The stocks that are followed.
pub(super) struct Market {
    seed: u64,
    /// Draws whose turn it is.
    random: SmallRng,
    /// One tick in so many jumps, and one in so many halts; 0 is none.
    jump_in: u32,
    halt_in: u32,
    halt_lasts: Duration,
    stocks: Vec<Stock>,
}

/// One stock. What it does depends on the seed and its symbol, and not on who else is followed.
pub(super) struct Stock {
    pub(super) symbol: Symbol,
    random: SmallRng,
    start: u64,
    cents: u64,
    halted_until: Duration,
    /// What becomes wrong with its ticks.
    pub(super) draws: Draws,
    /// The event time of its newest tick without a defect.
    pub(super) newest: Option<Timestamp>,
}

/// One step of one stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// The place of the stock.
    pub(super) place: usize,
    pub(super) size: u32,
}

/// A seed of its own for each purpose and symbol, so that none depends on the draws of another.
fn random(seed: u64, purpose: &str, symbol: &str) -> SmallRng {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(symbol)
        .finalize()
        .into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    SmallRng::seed_from_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

impl Market {
    pub(super) fn new(config: &SimConfig, symbols: &BTreeSet<Symbol>) -> Self {
        let mut market = Self {
            seed: config.seed,
            random: random(config.seed, "turn", ""),
            jump_in: config.jump_every_secs.saturating_mul(config.ticks_per_sec),
            halt_in: config.halt_every_secs.saturating_mul(config.ticks_per_sec),
            halt_lasts: Duration::from_secs(config.halt_secs.into()),
            stocks: Vec::new(),
        };
        market.follow(symbols);
        market
    }

    /// Others are to trade: those that stay go on from where they are.
    pub(super) fn follow(&mut self, symbols: &BTreeSet<Symbol>) {
        self.stocks.retain(|stock| symbols.contains(&stock.symbol));
        for symbol in symbols {
            if !self.stocks.iter().any(|stock| stock.symbol == *symbol) {
                self.stocks.push(Stock::new(self.seed, symbol));
            }
        }
    }

    pub(super) fn stock(&mut self, place: usize) -> Option<&mut Stock> {
        self.stocks.get_mut(place)
    }

    /// One stock moves. Where the one whose turn it is does not trade, the next that does moves;
    /// nothing where none does.
    pub(super) fn step(&mut self, now: Duration) -> Option<Step> {
        let count = self.stocks.len();
        if count == 0 {
            return None;
        }
        let turn = self.random.random_range(0..count);
        let (halt_in, lasts) = (self.halt_in, self.halt_lasts);
        for place in (turn..turn + count).map(|place| place % count) {
            let Some(stock) = self.stocks.get_mut(place) else { continue };
            if stock.trades(now, halt_in, lasts) {
                return Some(Step { place, size: stock.step(self.jump_in) });
            }
        }
        None
    }

    /// The price of another stock, at least twice as high or at most half as high as this one.
    pub(super) fn far_from(&self, cents: u64) -> Option<u64> {
        let mut others = self.stocks.iter().map(Stock::shown);
        others.find(|other| *other >= 2 * cents || 2 * *other <= cents)
    }
}

impl Stock {
    fn new(seed: u64, symbol: &Symbol) -> Self {
        let mut walk = random(seed, "walk", symbol.as_str());
        let drawn = walk.random_range(2_000..50_000);
        let known = STARTS.iter().find(|(name, _)| *name == symbol.as_str());
        let start = known.map_or(drawn, |&(_, start)| start);
        Self {
            symbol: symbol.clone(),
            random: walk,
            start,
            cents: start,
            halted_until: Duration::ZERO,
            draws: Draws::new(random(seed, "defects", symbol.as_str())),
            newest: None,
        }
    }

    /// The price in cents, as it is shown: a defect may have moved it to another level.
    pub(super) fn shown(&self) -> u64 {
        if self.draws.is_doubled() { 2 * self.cents } else { self.cents }
    }

    /// Whether it is not halted; perhaps it is halted now.
    fn trades(&mut self, now: Duration, halt_in: u32, lasts: Duration) -> bool {
        if now < self.halted_until {
            return false;
        }
        let is_halted = halt_in > 0 && self.random.random_ratio(1, halt_in);
        if is_halted {
            self.halted_until = now + lasts;
        }
        !is_halted
    }

    /// Moves by at most one part in 10,000, or by a cent, unless it jumps, and stays between half and
    /// twice of where it began. Gives the size of the trade; most are of round lots.
    fn step(&mut self, jump_in: u32) -> u32 {
        let Self { random, start, cents, .. } = self;
        let within = |cents: u64| cents.clamp(*start / 2, *start * 2);
        let reach = (*cents / 10_000).max(1);
        *cents = within(*cents - reach + random.random_range(0..=2 * reach));
        if jump_in > 0 && random.random_ratio(1, jump_in) {
            let jump = *cents * random.random_range(JUMP) / 10_000;
            *cents = within(if random.random() { *cents + jump } else { *cents - jump });
        }
        let is_odd = random.random_ratio(3, 10);
        let size = random.random_range(1..=if is_odd { 99 } else { 5 });
        if is_odd { size } else { 100 * size }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn symbols(names: &[&str]) -> BTreeSet<Symbol> {
        names.iter().map(|name| Symbol::new(name).unwrap()).collect()
    }

    fn known() -> BTreeSet<Symbol> {
        symbols(&STARTS.map(|(name, _)| name))
    }

    fn config(seed: u64, jump_every_secs: u32) -> SimConfig {
        SimConfig { seed, jump_every_secs, halt_every_secs: 0, ..SimConfig::default() }
    }

    /// What a number of steps show: symbol, price in cents, size.
    fn shown(market: &mut Market, count: usize) -> Vec<(Symbol, u64, u32)> {
        let mut shown = Vec::with_capacity(count);
        for _ in 0..count {
            let Step { place, size } = market.step(Duration::ZERO).unwrap();
            let stock = market.stock(place).unwrap();
            shown.push((stock.symbol.clone(), stock.shown(), size));
        }
        shown
    }

    fn of(symbol: &str, shown: &[(Symbol, u64, u32)]) -> Vec<(u64, u32)> {
        let own = shown.iter().filter(|(of, ..)| of.as_str() == symbol);
        own.map(|&(_, cents, size)| (cents, size)).collect()
    }

    #[test]
    fn a_market_depends_on_the_seed_alone() {
        let of = |seed| shown(&mut Market::new(&config(seed, 5), &known()), 2_000);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn what_a_stock_does_depends_on_nobody_else() {
        let config = config(7, 5);
        let alone = shown(&mut Market::new(&config, &symbols(&["IBM"])), 3_000);
        let mut market = Market::new(&config, &symbols(&["IBM", "AAPL", "ZZZ"]));
        let mut among = shown(&mut market, 1_000);
        market.follow(&symbols(&["IBM", "SPY"]));
        let spy = shown(&mut market, 1_000);
        market.follow(&symbols(&["IBM"]));
        among.extend(spy.clone());
        among.extend(shown(&mut market, 500));
        let among = of("IBM", &among);
        assert!(among.len() > 1_000);
        assert_eq!(among, of("IBM", &alone)[..among.len()]);
        // Whoever joins later begins at the beginning.
        let spy = of("SPY", &spy);
        let from_the_first = shown(&mut Market::new(&config, &symbols(&["SPY"])), spy.len());
        assert_eq!(spy, of("SPY", &from_the_first));
    }

    #[test]
    fn only_who_is_followed_trades() {
        let mut market = Market::new(&config(1, 0), &symbols(&["IBM", "SPY"]));
        market.follow(&symbols(&["SPY"]));
        assert_eq!(of("SPY", &shown(&mut market, 100)).len(), 100);
        market.follow(&symbols(&[]));
        assert_eq!(market.step(Duration::ZERO), None);
    }

    #[test]
    fn prices_stay_prices() {
        let symbols = symbols(&["ANY", "OTHER", "AAPL", "MSFT", "SPY"]);
        for (symbol, cents, size) in shown(&mut Market::new(&config(3, 5), &symbols), 200_000) {
            assert!((1_000..120_000).contains(&cents), "{symbol} at {cents}");
            let is_round = size % 100 == 0 && (100..=500).contains(&size);
            assert!((1..=99).contains(&size) || is_round, "{symbol}: {size}");
        }
    }

    #[test]
    fn well_known_stocks_look_like_themselves() {
        // An hour at the default rate.
        let mut before: HashMap<_, _> = STARTS.into();
        for (symbol, cents, _) in shown(&mut Market::new(&config(1, 0), &known()), 72_000) {
            let before = before.get_mut(symbol.as_str()).expect("a well-known stock");
            assert!(before.abs_diff(cents) <= cents / 5_000 + 1);
            *before = cents;
        }
        for (symbol, start) in STARTS {
            assert!(before[symbol].abs_diff(start) < start / 10, "{symbol} at {}", before[symbol]);
        }
    }

    #[test]
    fn a_jump_is_seen_and_no_outlier() {
        let mut newest = HashMap::new();
        let mut jumps = 0;
        // One tick in 100.
        for (symbol, cents, _) in shown(&mut Market::new(&config(5, 5), &known()), 10_000) {
            let before = newest.insert(symbol, cents).unwrap_or(cents);
            let moved = before.abs_diff(cents) * 10_000 / before;
            assert!(moved <= 260, "{before} to {cents}");
            jumps += u32::from(moved > 40);
        }
        assert!((50..200).contains(&jumps), "{jumps} in 10,000");
    }

    #[test]
    fn halts_come_and_go() {
        let config = SimConfig { halt_every_secs: 10, halt_secs: 3, ..config(1, 0) };
        let traded = || {
            let mut market = Market::new(&config, &known());
            let at = |n: u32| Duration::from_millis(50) * n;
            (0..20_000).map(|n| market.step(at(n)).map(|step| step.place)).collect::<Vec<_>>()
        };
        let places = traded();
        assert_eq!(places, traded());
        // A stock has a tick in 0.6 s, on average: one that has none for 3 s is halted, or very quiet.
        let mut last = HashMap::new();
        let mut pauses = 0;
        for (n, place) in places.iter().enumerate() {
            let place = place.expect("not all of them are halted");
            pauses += u32::from(last.insert(place, n).is_some_and(|last| n - last > 60));
        }
        // 100 halts in 1,000 s.
        assert!((60..260).contains(&pauses), "{pauses}");
    }

    #[test]
    fn while_all_are_halted_nothing_trades() {
        let config = SimConfig { ticks_per_sec: 1, halt_every_secs: 1, ..config(1, 0) };
        let mut market = Market::new(&config, &known());
        assert_eq!(market.step(Duration::ZERO), None);
    }
}
