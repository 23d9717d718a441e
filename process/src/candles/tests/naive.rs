//! Candles the slow and obvious way, and a day of trades.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
};

use flate2::read::GzDecoder;
use schemas::{
    Candle, CandleInterval, Decimal, Symbol,
    calendar::{Calendar, Calendars},
};

use super::{super::trade::Trade, trade};

/// The candles of the trades.
pub(super) fn candles(
    trades: &[Trade],
    interval: CandleInterval,
    calendars: &Calendars,
) -> Vec<Candle> {
    let mut spans: BTreeMap<(Symbol, _), (_, Vec<&Trade>)> = BTreeMap::new();
    for trade in trades {
        let (start, end) = match (interval, calendars.of(&trade.source)) {
            (CandleInterval::OneDay, Calendar::UsEquities) => {
                Calendar::UsEquities.span(Calendar::UsEquities.date(trade.print.ts))
            }
            _ => {
                let length = i64::try_from(interval.duration().as_millis()).unwrap();
                let start = trade.print.ts.as_millisecond().div_euclid(length) * length;
                let at = |ms| jiff::Timestamp::from_millisecond(ms).unwrap();
                (at(start), at(start + length))
            }
        };
        let span = spans.entry((trade.symbol.clone(), start)).or_insert((end, Vec::new()));
        span.1.push(trade);
    }
    let candle = |((symbol, start), (end, mut trades)): ((Symbol, _), (_, Vec<&Trade>))| {
        trades.sort_by_key(|trade| (trade.print.ts, trade.seq));
        let prices = || trades.iter().map(|trade| trade.print.price);
        let first = trades.first().unwrap();
        let last = trades.last().unwrap();
        let (volume, turnover, vwap) = sums(&trades);
        Candle {
            symbol,
            interval,
            start,
            end,
            open: first.print.price,
            high: prices().max().unwrap(),
            low: prices().min().unwrap(),
            close: last.print.price,
            volume,
            turnover: Some(turnover),
            vwap,
            trades: trades.len() as u64,
            first_trade: first.print.ts,
            last_trade: last.print.ts,
        }
    };
    spans.into_iter().map(candle).collect()
}

/// Volume, turnover and average price in whole ten-thousandths, with integers.
fn sums(trades: &[&Trade]) -> (Decimal, Decimal, Option<Decimal>) {
    let ten_thousandths = |number: Decimal| {
        let mut number = rust_decimal::Decimal::from(number);
        number.rescale(4);
        number.mantissa()
    };
    let sizes = trades.iter().map(|trade| trade.print.size.unwrap());
    let volume: i128 = sizes.map(ten_thousandths).sum::<i128>() / 10_000;
    let turnover: i128 = trades
        .iter()
        .map(|trade| {
            ten_thousandths(trade.print.price) * ten_thousandths(trade.print.size.unwrap())
        })
        .sum::<i128>()
        / 10_000;
    let number =
        |value: i128| Decimal::parse(&format!("{}.{:04}", value / 10_000, value % 10_000)).unwrap();
    let vwap = (volume > 0).then(|| rounded(turnover, volume * 10_000));
    (Decimal::parse(&volume.to_string()).unwrap(), number(turnover), vwap)
}

/// `a` ÷ `b`, half to even, to 12 significant digits, by whole numbers.
fn rounded(a: i128, b: i128) -> Decimal {
    const TWELVE: std::ops::Range<i128> = 100_000_000_000..1_000_000_000_000;
    for places in 0..13_u32 {
        let scaled = a * 10_i128.pow(places);
        let (quotient, rest) = (scaled / b, scaled % b);
        let up = rest * 2 > b || (rest * 2 == b && quotient % 2 == 1);
        let quotient = quotient + i128::from(up);
        if TWELVE.contains(&quotient) {
            let power = 10_i128.pow(places);
            let text = format!(
                "{}.{:0width$}",
                quotient / power,
                quotient % power,
                width = places as usize
            );
            return Decimal::parse(text.trim_end_matches('.')).unwrap();
        }
    }
    panic!("{a} / {b} has no 12 digits before 13 places");
}

/// Every trade of a real day where it is at hand, otherwise trades of its shape.
pub(super) fn day() -> Vec<Trade> {
    const REAL: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/us-equity-trades-2013-10-07.csv.gz"
    );
    let named = std::env::var("LIZARDS_TEST_TRADES").ok();
    let rows: Vec<String> = match std::fs::File::open(named.as_deref().unwrap_or(REAL)) {
        Ok(file) => {
            BufReader::new(GzDecoder::new(file)).lines().skip(1).map(Result::unwrap).collect()
        }
        Err(_) if named.is_none() => made(),
        Err(fault) => panic!("LIZARDS_TEST_TRADES: {fault}"),
    };
    let read = |(n, row): (usize, &String)| {
        let fields: Vec<_> = row.split(',').collect();
        trade(n as u64 + 1, fields[1], fields[0].parse().unwrap(), fields[2], fields[3])
    };
    rows.iter().enumerate().map(read).collect()
}

fn made() -> Vec<String> {
    let row = |n: u64| {
        let symbol = ["SPY", "BAC", "AIG", "IBM"][usize::try_from(n * 7 % 11 % 4).unwrap()];
        let cents = 10_000 + n * 37 % 101 + n / 50 % 200;
        let ts = 1_381_132_800_000 + n / 3 * 700;
        format!("{ts},{symbol},{}.{:02},{}", cents / 100, cents % 100, n % 5 * 100 + 1)
    };
    (0..100_000).map(row).collect()
}
