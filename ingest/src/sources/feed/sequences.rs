//! Which trades came, by their numbers: what is missing between them, and what came before.

use std::{collections::HashMap, fmt};

use schemas::{Source, Symbol};

use super::{Trade, payload};

/// The newest trade of each symbol that was handed over.
#[derive(Debug, Default)]
pub(in crate::sources) struct Sequences {
    newest: HashMap<Symbol, u64>,
    /// The id of the newest payload.
    last: Option<String>,
}

/// Trades of one symbol that were not sent to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    symbol: Symbol,
    after: u64,
    pub(super) missed: u64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { symbol, after, missed } = self;
        write!(f, "{missed} trades of {symbol} after {after} were missed")
    }
}

impl Sequences {
    /// A new session begins where the broker has the payload `resume` as its newest. Where another
    /// instance has published since, only what that payload tells is known.
    pub(super) fn go_on(&mut self, source: &Source, resume: Option<&str>) {
        if resume.is_some() && resume == self.last.as_deref() {
            return;
        }
        self.newest = resume.and_then(|id| payload::newest_of(source, id)).into_iter().collect();
        self.last = resume.map(str::to_owned);
    }

    /// Forgets symbols that are not followed: what they miss is not missing.
    pub(super) fn retain(&mut self, is_followed: impl Fn(&Symbol) -> bool) {
        self.newest.retain(|symbol, _| is_followed(symbol));
    }

    /// Whether all of them came before.
    pub(super) fn are_known(&self, trades: &[Trade]) -> bool {
        trades.iter().all(|trade| {
            let known = trade.symbol.as_ref().and_then(|symbol| self.newest.get(symbol));
            trade.is_repeat && known.zip(trade.number).is_some_and(|(known, n)| n <= *known)
        })
    }

    /// What is missing before and between these trades.
    pub(super) fn gaps(&self, trades: &[Trade]) -> Vec<Gap> {
        let mut newest: HashMap<&Symbol, u64> = HashMap::new();
        let mut gaps = Vec::new();
        let mut trades = numbered(trades).peekable();
        while let Some((symbol, number)) = trades.next() {
            let after = newest.get(symbol).or_else(|| self.newest.get(symbol)).copied();
            if let Some(after) = after
                && let missed @ 1.. = number.saturating_sub(after).saturating_sub(1)
            {
                gaps.push(Gap { symbol: symbol.clone(), after, missed });
            }
            // Most payloads have one trade, and need no map.
            if trades.peek().is_some() {
                newest.insert(symbol, number.max(after.unwrap_or(0)));
            }
        }
        gaps
    }

    /// The payload of these trades is handed over. What is not followed may still come.
    pub(super) fn record(
        &mut self,
        id: String,
        trades: &[Trade],
        is_followed: impl Fn(&Symbol) -> bool,
    ) {
        self.last = Some(id);
        for (symbol, number) in numbered(trades).filter(|(symbol, _)| is_followed(symbol)) {
            let newest = self.newest.entry(symbol.clone()).or_insert(number);
            *newest = number.max(*newest);
        }
    }
}

fn numbered(trades: &[Trade]) -> impl Iterator<Item = (&Symbol, u64)> {
    trades.iter().filter_map(|trade| trade.symbol.as_ref().zip(trade.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).unwrap()
    }

    fn trade(name: &str, number: u64) -> Trade {
        Trade { symbol: Some(symbol(name)), number: Some(number), is_repeat: false }
    }

    fn after(trades: &[Trade]) -> Sequences {
        let mut sequences = Sequences::default();
        sequences.record("kraken:_:1".into(), trades, |_| true);
        sequences
    }

    #[test]
    fn gaps_are_seen_before_and_within_a_payload_and_per_symbol() {
        let sequences = after(&[trade("A", 7)]);
        let gaps = |trades: &[Trade]| -> Vec<String> {
            sequences.gaps(trades).iter().map(Gap::to_string).collect()
        };
        assert!(gaps(&[trade("A", 8), trade("A", 9), trade("B", 1)]).is_empty());
        assert!(gaps(&[trade("A", 3)]).is_empty(), "an old one is no gap");
        assert_eq!(
            gaps(&[trade("A", 10), trade("B", 1), trade("A", 12), trade("B", 5)]),
            [
                "2 trades of A after 7 were missed",
                "1 trades of A after 10 were missed",
                "3 trades of B after 1 were missed",
            ]
        );
        assert!(gaps(&[Trade { symbol: None, ..trade("A", 90) }]).is_empty());
        assert!(after(&[trade("A", u64::MAX - 1)]).gaps(&[trade("A", u64::MAX)]).is_empty());
    }

    #[test]
    fn only_what_may_be_a_repeat_can_be_known() {
        let sequences = after(&[trade("A", 7)]);
        let repeat = |name, number| Trade { is_repeat: true, ..trade(name, number) };
        assert!(sequences.are_known(&[repeat("A", 6), repeat("A", 7)]));
        assert!(!sequences.are_known(&[repeat("A", 7), repeat("A", 8)]));
        assert!(!sequences.are_known(&[repeat("B", 7)]));
        assert!(!sequences.are_known(&[trade("A", 7)]));
    }

    #[test]
    fn a_session_remembers_the_one_before_unless_another_instance_went_on() {
        let kraken = Source::new("kraken").unwrap();
        let both = || {
            let mut sequences = after(&[trade("A", 7)]);
            sequences.record("kraken:B:9".into(), &[trade("B", 9)], |_| true);
            sequences
        };
        let mut same = both();
        same.go_on(&kraken, Some("kraken:B:9"));
        assert_eq!(same.newest.len(), 2);
        let mut other = both();
        other.go_on(&kraken, Some("kraken:A:8"));
        assert_eq!(other.newest, [(symbol("A"), 8)].into());
        let mut nothing = both();
        nothing.go_on(&kraken, None);
        assert!(nothing.newest.is_empty());
    }

    #[test]
    fn what_is_left_and_followed_again_has_missed_nothing() {
        let mut sequences = after(&[trade("A", 7), trade("B", 7)]);
        sequences.retain(|kept| *kept == symbol("B"));
        assert!(sequences.gaps(&[trade("A", 90)]).is_empty());
        assert_eq!(sequences.gaps(&[trade("B", 9)]).len(), 1);
        sequences.record("kraken:A:8".into(), &[trade("A", 8)], |kept| *kept == symbol("B"));
        assert_eq!(sequences.newest.len(), 1, "what still came of it says nothing");
    }
}
