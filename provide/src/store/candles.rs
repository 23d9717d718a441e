//! Candles from trades, exactly: decimal sums, buckets aligned to UTC.

use async_trait::async_trait;
use jiff::Timestamp;
use rust_decimal::Decimal as Number;
use schemas::{Candle, CandleInterval, Decimal, Symbol};

use super::{Position, Span, StoreError};

/// How many trades one request may read. Beyond it the answer is an error, never a part of a
/// candle.
pub(super) const MAX_TRADES: usize = 1_000_000;

/// How many trades are read from a store at once.
pub(super) const PAGE: u32 = 10_000;

/// What a candle needs of a trade.
struct Trade {
    position: Position,
    price: Decimal,
    size: Option<Decimal>,
}

/// ts_ns, seq, price, size.
pub(super) type TradeRow = (i64, i64, String, Option<String>);

impl Trade {
    fn read(row: TradeRow) -> Result<Self, StoreError> {
        let (ts_ns, seq, price, size) = row;
        let parse = |text: &str| {
            Decimal::parse(text).map_err(|fault| StoreError::Corrupt {
                id: format!("of sequence {seq}"),
                fault: fault.to_string(),
            })
        };
        Ok(Self {
            position: Position { ts_ns, seq },
            price: parse(&price)?,
            size: size.as_deref().map(parse).transpose()?,
        })
    }
}

/// A store that has trades.
#[async_trait]
pub(super) trait Trades: Sync {
    /// At most [`PAGE`] trades of the symbol behind `after` and before `to_ns`, by event time and
    /// then sequence.
    async fn trades(
        &self,
        symbol: &Symbol,
        after: Position,
        to_ns: i64,
    ) -> Result<Vec<TradeRow>, StoreError>;
}

/// The first `limit` candles of the trades in `span`, read page by page.
pub(super) async fn read(
    store: &impl Trades,
    symbol: &Symbol,
    interval: CandleInterval,
    span: Span,
    limit: u32,
) -> Result<Vec<Candle>, StoreError> {
    let span = whole(span, interval);
    let mut builder = Builder::new(symbol, interval, limit);
    let mut after = span.behind(None);
    loop {
        let page = store.trades(symbol, after, span.to_ns).await?;
        let is_last = page.len() < PAGE as usize;
        for row in page {
            let trade = Trade::read(row)?;
            if !builder.add(&trade)? {
                return Ok(builder.candles);
            }
            after = trade.position;
        }
        if is_last {
            return Ok(builder.candles);
        }
    }
}

/// The span made wide enough that no candle of it is a part of one.
fn whole(span: Span, interval: CandleInterval) -> Span {
    let length = nanoseconds(interval);
    let from_ns = span.from_ns.saturating_sub(span.from_ns.rem_euclid(length));
    let over = span.to_ns.rem_euclid(length);
    let to_ns = if over == 0 { span.to_ns } else { span.to_ns.saturating_add(length - over) };
    Span { from_ns, to_ns }
}

/// Builds candles from trades that come by event time and then sequence.
struct Builder<'a> {
    symbol: &'a Symbol,
    interval: CandleInterval,
    limit: usize,
    trades: usize,
    candles: Vec<Candle>,
}

impl<'a> Builder<'a> {
    fn new(symbol: &'a Symbol, interval: CandleInterval, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { symbol, interval, limit, trades: 0, candles: Vec::new() }
    }

    /// Takes the next trade; false where it belongs to a candle beyond the limit.
    fn add(&mut self, trade: &Trade) -> Result<bool, StoreError> {
        self.trades += 1;
        if self.trades > MAX_TRADES {
            return Err(StoreError::TooManyTrades);
        }
        let start = self.start_of(trade.position)?;
        let size = trade.size.unwrap_or(Decimal::ZERO);
        let is_full = self.candles.len() == self.limit;
        match self.candles.last_mut() {
            Some(candle) if candle.start == start => {
                candle.high = candle.high.max(trade.price);
                candle.low = candle.low.min(trade.price);
                candle.close = trade.price;
                candle.volume = exact_sum(candle.volume, size)?;
                candle.trades += 1;
            }
            _ if is_full => return Ok(false),
            _ => self.candles.push(Candle {
                symbol: self.symbol.clone(),
                interval: self.interval,
                start,
                open: trade.price,
                high: trade.price,
                low: trade.price,
                close: trade.price,
                volume: size,
                trades: 1,
            }),
        }
        Ok(true)
    }

    fn start_of(&self, position: Position) -> Result<Timestamp, StoreError> {
        let ts_ns = i128::from(position.ts_ns);
        let length = i128::from(nanoseconds(self.interval));
        Timestamp::from_nanosecond(ts_ns - ts_ns.rem_euclid(length)).map_err(|fault| {
            StoreError::Corrupt {
                id: format!("of sequence {}", position.seq),
                fault: fault.to_string(),
            }
        })
    }
}

fn nanoseconds(interval: CandleInterval) -> i64 {
    // The longest interval is a day: far within 63 bits.
    i64::try_from(interval.duration().as_nanos()).unwrap_or(i64::MAX)
}

/// The sum with every digit, or an error: `checked_add` rounds where digits do not fit.
fn exact_sum(a: Decimal, b: Decimal) -> Result<Decimal, StoreError> {
    let (a, b) = (Number::from(a), Number::from(b));
    a.checked_add(b)
        .filter(|sum| sum.scale() == a.scale().max(b.scale()))
        .map(Decimal::from)
        .ok_or(StoreError::VolumeTooPrecise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn a_sum_is_exact_or_an_error() {
        assert_eq!(exact_sum(decimal("0.1"), decimal("0.20")).unwrap().to_string(), "0.30");
        let huge = decimal("79228162514264337593543950335");
        assert!(matches!(exact_sum(huge, decimal("0.5")), Err(StoreError::VolumeTooPrecise)));
        assert!(matches!(exact_sum(huge, decimal("1")), Err(StoreError::VolumeTooPrecise)));
    }

    #[test]
    fn a_span_grows_to_whole_candles() {
        let second = 1_000_000_000;
        let span = Span { from_ns: -1, to_ns: second + 1 };
        assert_eq!(
            whole(span, CandleInterval::OneSecond),
            Span { from_ns: -second, to_ns: 2 * second }
        );
        let exact = Span { from_ns: 0, to_ns: second };
        assert_eq!(whole(exact, CandleInterval::OneSecond), exact);
        let all = Span::new(None, None);
        assert_eq!(whole(all, CandleInterval::OneDay), all);
    }

    #[test]
    fn more_trades_than_allowed_are_an_error_not_a_part_of_a_candle() {
        let symbol = Symbol::new("A").unwrap();
        let mut builder = Builder::new(&symbol, CandleInterval::OneDay, 1);
        let position = Position { ts_ns: 0, seq: 1 };
        let trade = Trade { position, price: decimal("1"), size: None };
        for _ in 0..MAX_TRADES {
            assert!(builder.add(&trade).unwrap());
        }
        assert!(matches!(builder.add(&trade), Err(StoreError::TooManyTrades)));
    }
}
