//! Who follows what, and which tick comes when: known to all processes of the benchmark beforehand,
//! so that a client can tell of every message whether it is the next.

use clap::ValueEnum;
use serde::Serialize;

/// What the clients follow. Ticks are numbered from 1, which is also their sequence in the stream,
/// and come symbol by symbol in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// All clients follow one symbol.
    One,
    /// There are 1,000 symbols, and each client follows 20 of them.
    Many,
}

impl Scenario {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
        }
    }

    /// How many symbols there are.
    pub(super) fn symbols(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Many => 1_000,
        }
    }

    /// How many symbols a client follows.
    pub(super) fn per_client(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Many => 20,
        }
    }

    /// The symbol of a tick.
    pub(super) fn symbol_of(self, seq: u64) -> u64 {
        (seq - 1) % self.symbols()
    }

    /// The tick of the same symbol before this one; 0 where there is none.
    pub(super) fn prev(self, seq: u64) -> u64 {
        seq.saturating_sub(self.symbols())
    }

    /// The symbols that a client follows, in the order of their ticks: the same in every run, and
    /// as good as drawn by lot.
    pub(super) fn followed_by(self, client: u64) -> Vec<u64> {
        let mut followed = Vec::new();
        let mut draw = client;
        while (followed.len() as u64) < self.per_client() {
            draw = mixed(draw);
            let symbol = draw % self.symbols();
            if !followed.contains(&symbol) {
                followed.push(symbol);
            }
        }
        followed.sort_unstable();
        followed
    }
}

/// The name of a symbol.
pub(super) fn symbol_name(symbol: u64) -> String {
    format!("S{symbol:04}")
}

/// The step of SplitMix64 (Steele, Lea and Flood, 2014): different for different numbers.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Where one client is: which tick of each of its symbols is due.
///
/// The order between symbols does not matter; a server with a channel for each does not keep it.
#[derive(Debug)]
pub(super) struct Place {
    symbols: u64,
    followed: Vec<u64>,
    due: Vec<u64>,
    received: u64,
}

impl Place {
    /// Before its first tick.
    pub(super) fn new(scenario: Scenario, client: u64) -> Self {
        let (symbols, followed) = (scenario.symbols(), scenario.followed_by(client));
        let due = followed.iter().map(|symbol| symbol + 1).collect();
        Self { symbols, followed, due, received: 0 }
    }

    /// The earliest tick that has not come: all before it have.
    pub(super) fn next(&self) -> u64 {
        self.due.iter().copied().min().unwrap_or_default()
    }

    /// Takes a tick in; false where another of its symbol is due, or none.
    pub(super) fn advance(&mut self, seq: u64) -> bool {
        let symbol = seq.wrapping_sub(1) % self.symbols;
        let place = self.followed.binary_search(&symbol).ok();
        match place.and_then(|place| self.due.get_mut(place)) {
            Some(due) if *due == seq => {
                *due += self.symbols;
                self.received += 1;
                true
            }
            _ => false,
        }
    }

    /// How many have come.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

/// How many clients follow each symbol.
pub(super) fn followers(scenario: Scenario, clients: u64) -> Vec<u64> {
    let mut followers = vec![0; usize::try_from(scenario.symbols()).unwrap_or_default()];
    for symbol in (0..clients).flat_map(|client| scenario.followed_by(client)) {
        if let Some(count) = usize::try_from(symbol).ok().and_then(|at| followers.get_mut(at)) {
            *count += 1;
        }
    }
    followers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_ticks_of_its_symbols_and_no_others() {
        for scenario in [Scenario::One, Scenario::Many] {
            let followed = scenario.followed_by(17);
            assert_eq!(followed.len() as u64, scenario.per_client());
            let mut place = Place::new(scenario, 17);
            for seq in 1..=3 * scenario.symbols() {
                if followed.contains(&scenario.symbol_of(seq)) {
                    assert_eq!(place.next(), seq);
                    assert!(!place.advance(seq + scenario.symbols()), "one is lost");
                    assert!(place.advance(seq));
                }
                assert!(!place.advance(seq), "doubled, or not asked for");
            }
            assert_eq!(place.received(), 3 * scenario.per_client());
        }
    }

    #[test]
    fn all_deliveries_are_counted() {
        assert_eq!(followers(Scenario::One, 7), [7]);
        let many = followers(Scenario::Many, 100);
        assert_eq!((many.len(), many.iter().sum::<u64>()), (1_000, 2_000));
    }
}
