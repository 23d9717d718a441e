//! The names of payloads: the same message has the same id over every connection that it comes by,
//! and two messages never share one.
//!
//! - A trade that the provider numbers: `<source>:<symbol>:<number>`.
//! - Several of them, of one symbol: `<source>:<symbol>:<number of the newest>:<hash>`; of several:
//!   `<source>:_:<hash>`. The hash is of the message. One trade may be in two messages, where the
//!   provider puts them together differently for two connections: it is told again when it is
//!   decoded, by its own identity.
//! - Trades without numbers: `<source>:<symbol or _>:<hash>`. Where they have no identity at all, two
//!   different messages may be equal to the byte, so the second one on a connection has `:1` behind
//!   its hash, the third `:2`: on every connection that gets all of them.

use std::collections::{HashMap, VecDeque};

use schemas::{MANY_SYMBOLS, Source, Symbol};
use sha2::{Digest, Sha256};

use super::Trade;

/// So many messages of a connection are compared with each other. Equal ones are of one
/// millisecond, so they are near.
const COMPARED: usize = 1_024;

/// The symbol of all the trades, if it is one.
pub(super) fn symbol_of(trades: &[Trade]) -> Option<&Symbol> {
    let first = trades.first()?.symbol.as_ref()?;
    trades.iter().all(|trade| trade.symbol.as_ref() == Some(first)).then_some(first)
}

/// What a payload's id tells of the newest trade.
pub(super) fn newest_of(source: &Source, id: &str) -> Option<(Symbol, u64)> {
    let mut parts = id.strip_prefix(source.as_str())?.strip_prefix(':')?.split(':');
    let (token, number) = (parts.next()?, parts.next()?);
    // A hash begins with a letter.
    Some((Symbol::from_token(token).ok()?, number.parse().ok()?))
}

/// Names the payloads of one connection.
#[derive(Default)]
pub(super) struct Names {
    /// How often each of the newest messages without numbers came.
    seen: HashMap<String, u32>,
    oldest_first: VecDeque<String>,
}

impl Names {
    /// The message id of a payload.
    pub(super) fn id(&mut self, source: &Source, trades: &[Trade], body: &[u8]) -> String {
        let symbol = symbol_of(trades);
        let token = symbol.map_or(MANY_SYMBOLS.into(), Symbol::token);
        match (symbol, numbers(trades).as_deref()) {
            (Some(_), Some([number])) => format!("{source}:{token}:{number}"),
            (Some(_), Some([.., newest])) => format!("{source}:{token}:{newest}:{}", hash(body)),
            (None, Some(_)) => format!("{source}:{token}:{}", hash(body)),
            _ => {
                let id = format!("{source}:{token}:{}", hash(body));
                match self.count(&id) {
                    0 => id,
                    times => format!("{id}:{times}"),
                }
            }
        }
    }

    /// How often this id came before.
    fn count(&mut self, id: &str) -> u32 {
        if let Some(times) = self.seen.get_mut(id) {
            *times += 1;
            return *times;
        }
        if self.oldest_first.len() == COMPARED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.oldest_first.push_back(id.to_owned());
        self.seen.insert(id.to_owned(), 0);
        0
    }
}

/// The numbers in ascending order, if all trades have one.
fn numbers(trades: &[Trade]) -> Option<Vec<u64>> {
    let mut numbers: Vec<u64> = trades.iter().map(|trade| trade.number).collect::<Option<_>>()?;
    numbers.sort_unstable();
    Some(numbers)
}

/// The first 32 hexadecimal digits of the SHA-256, with an `h` before them.
fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    std::iter::once("h".to_owned())
        .chain(digest.iter().take(16).map(|byte| format!("{byte:02x}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source::new("kraken").unwrap()
    }

    fn trade(name: &str, number: Option<u64>) -> Trade {
        Trade { symbol: Some(Symbol::new(name).unwrap()), number, is_repeat: false }
    }

    fn id(trades: &[Trade], body: &str) -> String {
        Names::default().id(&source(), trades, body.as_bytes())
    }

    #[test]
    fn numbered_trades_name_their_payload() {
        let btc = |number| trade("BTC/USD", Some(number));
        assert_eq!(id(&[btc(7)], "x"), "kraken:BTC/USD:7");
        let several = id(&[btc(9), btc(7)], "x");
        assert!(several.starts_with("kraken:BTC/USD:9:h"), "{several}");
        assert_eq!(several, id(&[btc(9), btc(7)], "x"));
        assert_ne!(several, id(&[btc(9), btc(8), btc(7)], "y"), "others between the same ends");
        assert!(id(&[btc(9), trade("ETH/USD", Some(3))], "x").starts_with("kraken:_:h"));
        assert!(id(&[Trade { symbol: None, ..btc(9) }], "x").starts_with("kraken:_:h"));
    }

    #[test]
    fn equal_messages_without_numbers_are_told_apart_alike_on_every_connection() {
        let (mut first, mut second) = (Names::default(), Names::default());
        let trades = [trade("TSLA", None)];
        let named = |names: &mut Names| -> Vec<String> {
            ["a", "b", "a", "a"].map(|body| names.id(&source(), &trades, body.as_bytes())).into()
        };
        let ids = named(&mut first);
        assert_eq!(ids, named(&mut second));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 4, "{ids:?}");
        for n in 0..2 * COMPARED {
            first.id(&source(), &trades, n.to_string().as_bytes());
        }
        assert_eq!((first.seen.len(), first.oldest_first.len()), (COMPARED, COMPARED));
    }

    #[test]
    fn the_newest_trade_is_read_from_an_id() {
        let btc = |number| trade("BTC/USD", Some(number));
        let newest = |id: &str| newest_of(&source(), id).map(|(_, number)| number);
        assert_eq!(newest(&id(&[btc(7)], "x")), Some(7));
        assert_eq!(newest(&id(&[btc(7), btc(9)], "x")), Some(9));
        assert_eq!(newest(&id(&[btc(9), trade("ETH/USD", Some(3))], "x")), None);
        assert_eq!(newest(&id(&[trade("BTC/USD", None)], "x")), None);
        assert_eq!(newest("coinbase:BTC-USD:7"), None);
    }
}
