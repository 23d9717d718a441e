//! The simulator: a random walk for a set of symbols, the same for the same seed.
//!
//! Prices begin where the well-known stocks have been, move by a cent or two, jump, and may be halted
//! ([`market`]); the market opens with a burst ([`schedule`]); and ticks have the [`defects`] that
//! are asked for. It never pretends to be a market: the source of every tick is `sim`, its venue
//! `SIM`.

mod defects;
mod market;
mod payload;
mod schedule;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::{RawTick, Source as Name, Symbol};
use tokio::time::{Instant, sleep_until};

use self::{
    defects::{Defect, Rates},
    market::{Market, Step},
    payload::Payload,
    schedule::Schedule,
};
use crate::{
    config::{self, ConfigError, SimConfig},
    source::{FetchError, Session, Source},
};

const MAX_TICKS_PER_SEC: u32 = 1_000_000;
const MAX_BURST: u32 = 100;

/// A symbol that nobody announces, and one for an operator to halt, at always the same price.
const UNKNOWN_SYMBOL: &str = "SIM-UNKNOWN";
const HALTED_SYMBOL: &str = "SIM-HALTED";
const THEIR_CENTS: u64 = 10_000;

/// After a standstill as long as this, the ticks that were not made up are not made up for.
const STANDSTILL: Duration = Duration::from_secs(1);

/// The simulator.
pub(super) struct Sim {
    name: Name,
    symbols: Vec<Symbol>,
    unknown: Symbol,
    halted: Symbol,
    config: SimConfig,
    rates: Rates,
}

impl Sim {
    pub(super) fn new(config: &SimConfig) -> Result<Self, ConfigError> {
        let within = |key: &str, value: u32, most: u32| {
            let fault = format!("must be 1 to {most}, not {value}");
            if (1..=most).contains(&value) { Ok(()) } else { Err(ConfigError::new(key, fault)) }
        };
        within("sim.ticks_per_sec", config.ticks_per_sec, MAX_TICKS_PER_SEC)?;
        within("sim.open_burst", config.open_burst, MAX_BURST)?;
        let own = |name| Symbol::new(name).map_err(|fault| ConfigError::new("sim", fault));
        Ok(Self {
            name: super::source_name("sim"),
            symbols: config::symbols("sim.symbols", &config.symbols)?,
            unknown: own(UNKNOWN_SYMBOL)?,
            halted: own(HALTED_SYMBOL)?,
            rates: Rates::read(&config.defects)
                .map_err(|fault| ConfigError::new("sim.defects", fault))?,
            config: config.clone(),
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

    /// A market that starts anew: what a run made up is told from the runs before by its start.
    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { mut outlet, mut symbols, .. } = session;
        let mut followed = symbols.now();
        let mut script = Script::new(self, &followed, Timestamp::now().as_microsecond());
        let mut schedule = Schedule::new(&self.config);
        let mut origin = Instant::now();
        loop {
            let due = schedule.next();
            sleep_until(origin + due).await;
            let now = symbols.now();
            if !Arc::ptr_eq(&now, &followed) {
                script.market.follow(&now);
                followed = now;
            }
            for tick in script.next(due, Timestamp::now()).into_iter().flatten().flatten() {
                outlet.send(tick).await;
            }
            let late = origin.elapsed().saturating_sub(due);
            if late > STANDSTILL {
                origin += late;
            }
        }
    }
}

/// What happens: the same for the same seed, but for the times and the ids, which have the start of
/// the run in them.
struct Script<'a> {
    sim: &'a Sim,
    market: Market,
    run: i64,
    n: u64,
}

impl<'a> Script<'a> {
    fn new(sim: &'a Sim, symbols: &BTreeSet<Symbol>, run: i64) -> Self {
        Self { sim, market: Market::new(&sim.config, symbols), run, n: 0 }
    }

    /// The next tick, which is one payload, or two; nothing while all symbols are halted.
    fn next(&mut self, due: Duration, now: Timestamp) -> Option<[Option<RawTick>; 2]> {
        let n = self.n;
        self.n += 1;
        let sim = self.sim;
        let Step { place, size } = self.market.step(due)?;
        let stock = self.market.stock(place)?;
        let mut defect = stock.draws.draw(&sim.rates);
        let (own, before) = (stock.symbol.clone(), stock.newest.unwrap_or(now));
        let cents = stock.shown();
        let foreign = self.market.far_from(cents).filter(|_| defect == Some(Defect::WrongSymbol));
        if foreign.is_none() && defect == Some(Defect::WrongSymbol) {
            // No other price is far enough away to be a defect.
            defect = None;
        }
        if matches!(defect, None | Some(Defect::Duplicate | Defect::Repeat | Defect::LevelShift)) {
            self.market.stock(place)?.newest = Some(now);
        }
        let (symbol, cents) = match defect {
            Some(Defect::UnknownSymbol) => (sim.unknown.clone(), THEIR_CENTS),
            Some(Defect::HaltedSymbol) => (sim.halted.clone(), THEIR_CENTS),
            _ => (own, cents),
        };
        let trade = format!("{}:{n}", self.run);
        let payload = Payload {
            symbol: symbol.as_str(),
            cents,
            foreign_cents: foreign.unwrap_or(cents),
            size,
            ts: now,
            before,
            n,
            trade: (defect == Some(Defect::Repeat)).then_some(&trade),
        };
        let tick = |id: String, defect| RawTick {
            id,
            source: sim.name.clone(),
            symbol: Some(symbol.clone()),
            received_at: now,
            content_type: "application/json".to_owned(),
            format: Payload::format(defect),
            columns: None,
            body: payload.json(defect),
        };
        let id = format!("sim:{}:{trade}", sim.config.seed);
        Some(match defect {
            Some(Defect::Duplicate) => [(); 2].map(|()| Some(tick(id.clone(), defect))),
            Some(Defect::Repeat) => {
                let again = format!("{id}:again");
                [Some(tick(id, None)), Some(tick(again, defect))]
            }
            _ => [Some(tick(id, defect)), None],
        })
    }
}

#[cfg(test)]
mod tests;
