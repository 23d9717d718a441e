//! The outlier rule on every trade of a real day: what really happened passes, what could not does
//! not.
//!
//! The day is `../shared/data/us-equity-trades-2013-10-07.csv.gz` beside the repository, or the file
//! that `LIZARDS_TEST_TRADES` names; where neither is there, trades are made up.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
};

use flate2::read::GzDecoder;
use jiff::{SignedDuration, Timestamp};
use schemas::{Decimal, Format, RawTick, Source, Symbol, TickKind, calendar::Calendars};

use super::*;

struct Trade {
    ts: Timestamp,
    symbol: Symbol,
    price: Decimal,
}

fn trades() -> Vec<Trade> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/us-equity-trades-2013-10-07.csv.gz"
    );
    let named = std::env::var("LIZARDS_TEST_TRADES").ok();
    match std::fs::File::open(named.as_deref().unwrap_or(file)) {
        Ok(file) => {
            let lines = BufReader::new(GzDecoder::new(file)).lines().skip(1);
            lines.map(|line| trade(&line.unwrap())).collect()
        }
        Err(_) if named.is_none() => made_up(),
        Err(fault) => panic!("LIZARDS_TEST_TRADES: {fault}"),
    }
}

fn trade(line: &str) -> Trade {
    let mut fields = line.split(',');
    let mut next = || fields.next().unwrap();
    Trade {
        ts: Timestamp::from_millisecond(next().parse().unwrap()).unwrap(),
        symbol: Symbol::new(next()).unwrap(),
        price: next().parse().unwrap(),
    }
}

/// Steps of at most five cents, from prices of that day on.
fn made_up() -> Vec<Trade> {
    let mut cents = [16_800_u32, 1_386, 4_894, 18_253];
    let mut random = 1_u32;
    (0..50_000)
        .map(|number| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = (random >> 16) as usize % 4;
            let price = &mut cents[place];
            *price = (*price + (random >> 20) % 11 - 5).clamp(*price - 5, *price + 5);
            Trade {
                ts: Timestamp::from_millisecond(1_381_152_600_000 + number * 400).unwrap(),
                symbol: Symbol::new(["SPY", "BAC", "AIG", "IBM"][place]).unwrap(),
                price: format!("{}.{:02}", *price / 100, *price % 100).parse().unwrap(),
            }
        })
        .collect()
}

struct Judge {
    rules: Rules,
    state: State,
    raw: RawTick,
    sequence: u64,
}

impl Judge {
    fn new() -> Self {
        let rules = Rules {
            config: RulesConfig { outlier: Action::Reject, ..RulesConfig::default() },
            max_future: SignedDuration::from_secs(5),
            calendars: Calendars::default(),
            listings: Listings::default(),
        };
        let raw = RawTick {
            id: String::new(),
            source: Source::new("file").unwrap(),
            symbol: None,
            received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
            content_type: "text/csv".into(),
            format: Format::CsvRow,
            columns: None,
            body: bytes::Bytes::new(),
        };
        Self { rules, state: State::new(100_000), raw, sequence: 0 }
    }

    /// Whether the price passes.
    fn passes(&mut self, ts: Timestamp, symbol: &Symbol, price: Decimal) -> bool {
        self.sequence += 1;
        self.raw.id = self.sequence.to_string();
        let event = Decoded {
            identity: None,
            symbol: symbol.clone(),
            price,
            size: None,
            currency: "USD".into(),
            exchange: None,
            kind: TickKind::Trade,
            ts,
        };
        let place = (self.sequence, 0);
        let context = Context { raw: &self.raw, place, was_rejected: false, is_repeat: false };
        match self.rules.judge(event, &context, &mut self.state) {
            Ok(_) => true,
            Err(rejection) => {
                assert_eq!(rejection.reason, Reason::Outlier, "{}", rejection.detail);
                false
            }
        }
    }
}

/// Of so many, how many were caught.
#[derive(Default)]
struct Caught {
    of: u32,
    caught: u32,
}

#[test]
fn real_trades_pass_and_wrong_ones_do_not() {
    let trades = trades();
    let mut clean = Judge::new();
    let lost = trades.iter().filter(|trade| !clean.passes(trade.ts, &trade.symbol, trade.price));
    let lost = lost.count();
    assert!(lost * 10_000 < trades.len(), "{lost} of {} real trades are lost", trades.len());

    let mut judge = Judge::new();
    let mut newest = BTreeMap::new();
    let mut caught = BTreeMap::<String, Caught>::new();
    let mut lost = 0;
    for (number, trade) in trades.iter().enumerate() {
        // One wrong price in 29, of each kind in turn: they must not spoil what comes after them.
        if number % 29 == 0
            && newest.contains_key(&trade.symbol)
            && let Some((kind, price)) = wrong(number / 29, trade, &newest)
        {
            let kind = caught.entry(kind).or_default();
            kind.of += 1;
            kind.caught += u32::from(!judge.passes(trade.ts, &trade.symbol, price));
        }
        lost += usize::from(!judge.passes(trade.ts, &trade.symbol, trade.price));
        newest.insert(trade.symbol.clone(), trade.price);
    }
    assert!(lost * 10_000 < trades.len(), "{lost} of {} real trades are lost", trades.len());
    assert_eq!(caught.len(), 4 + 12, "every decimal shift, and every symbol as every other");
    for (kind, Caught { of, caught }) in caught {
        assert!(of >= 20, "{kind} was only tried {of} times");
        assert!(caught * 100 >= of * 99, "{kind}: only {caught} of {of} were caught");
    }
}

/// A price with its decimal point in the wrong place, or of another symbol.
fn wrong(
    number: usize,
    trade: &Trade,
    newest: &BTreeMap<Symbol, Decimal>,
) -> Option<(String, Decimal)> {
    if let Some((kind, exponent)) =
        [("x10", "e1"), ("x100", "e2"), ("/10", "e-1"), ("/100", "e-2")].get(number % 7)
    {
        let shifted = format!("{}{exponent}", trade.price).parse().ok()?;
        return Some(((*kind).to_owned(), shifted));
    }
    let mut others = newest.iter().filter(|(symbol, _)| **symbol != trade.symbol);
    let (symbol, price) = others.nth(number % 7 - 4)?;
    Some((format!("{symbol} as {}", trade.symbol), *price))
}
