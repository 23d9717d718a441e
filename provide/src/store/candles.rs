//! Candles from trades, cut as those of the stream `CANDLES` are.

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::{
    Candle, CandleBuilder, CandleInterval, Decimal, Print, Source, Symbol, calendar::Calendars,
};

use super::{Position, Span, StoreError};

/// How many trades one request may read. Beyond it the answer is an error, never a part of a
/// candle.
pub(super) const MAX_TRADES: usize = 1_000_000;

/// How many trades are read from a store at once.
pub(super) const PAGE: u32 = 10_000;

/// What a candle needs of a trade.
struct Trade {
    position: Position,
    source: Source,
    print: Print,
}

/// ts_ns, seq, price, size, source.
pub(super) type TradeRow = (i64, i64, String, Option<String>, String);

impl Trade {
    fn read(row: TradeRow) -> Result<Self, StoreError> {
        let (ts_ns, seq, price, size, source) = row;
        let parse = |text: &str| Decimal::parse(text).map_err(|fault| corrupt(seq, fault));
        let print = Print {
            ts: Timestamp::from_nanosecond(ts_ns.into()).map_err(|fault| corrupt(seq, fault))?,
            price: parse(&price)?,
            size: size.as_deref().map(parse).transpose()?,
        };
        let source = Source::new(&source).map_err(|fault| corrupt(seq, fault))?;
        Ok(Self { position: Position { ts_ns, seq }, source, print })
    }
}

fn corrupt(seq: i64, fault: impl ToString) -> StoreError {
    StoreError::Corrupt { id: format!("of sequence {seq}"), fault: fault.to_string() }
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
    calendars: &Calendars,
    symbol: &Symbol,
    interval: CandleInterval,
    span: Span,
    limit: u32,
) -> Result<Vec<Candle>, StoreError> {
    let wide = whole(span, interval, calendars);
    let mut builder = Builder::new(calendars, symbol, interval, span, limit);
    let mut after = wide.behind(None);
    loop {
        let page = store.trades(symbol, after, wide.to_ns).await?;
        let is_last = page.len() < PAGE as usize;
        for row in page {
            let trade = Trade::read(row)?;
            if !builder.add(&trade)? {
                return Ok(builder.candles);
            }
            after = trade.position;
        }
        if is_last {
            builder.finish();
            return Ok(builder.candles);
        }
    }
}

/// The span made wide enough that no candle it touches is a part of one, whichever calendar its
/// trades keep.
fn whole(span: Span, interval: CandleInterval, calendars: &Calendars) -> Span {
    let mut wide = span;
    for calendar in calendars.in_use() {
        let around = |ns: i64| {
            let ts = Timestamp::from_nanosecond(ns.into()).ok()?;
            interval.span_in(calendar, ts)
        };
        let from = around(span.from_ns).map(|(start, _)| Span::new(Some(start), None).from_ns);
        // The last instant of the span is the one before `to`.
        let to = around(span.to_ns.saturating_sub(1));
        let to = to.map(|(_, end)| Span::new(None, Some(end)).to_ns);
        wide.from_ns = wide.from_ns.min(from.unwrap_or(i64::MIN));
        wide.to_ns = wide.to_ns.max(to.unwrap_or(i64::MAX));
    }
    wide
}

/// Builds candles from trades that come by event time and then sequence.
struct Builder<'a> {
    calendars: &'a Calendars,
    symbol: &'a Symbol,
    interval: CandleInterval,
    /// Candles that do not touch it are not wanted.
    span: Span,
    limit: usize,
    trades: usize,
    growing: Option<CandleBuilder>,
    candles: Vec<Candle>,
}

impl<'a> Builder<'a> {
    fn new(
        calendars: &'a Calendars,
        symbol: &'a Symbol,
        interval: CandleInterval,
        span: Span,
        limit: u32,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (growing, candles) = (None, Vec::new());
        Self { calendars, symbol, interval, span, limit, trades: 0, growing, candles }
    }

    /// Takes the next trade; false where it belongs to a candle beyond the limit.
    fn add(&mut self, trade: &Trade) -> Result<bool, StoreError> {
        self.trades += 1;
        if self.trades > MAX_TRADES {
            return Err(StoreError::TooManyTrades);
        }
        let print = &trade.print;
        if let Some(growing) = self.growing.as_mut().filter(|growing| print.ts < growing.end()) {
            growing.add(print).map_err(|_| StoreError::VolumeTooPrecise)?;
            return Ok(true);
        }
        self.finish();
        if self.candles.len() == self.limit {
            return Ok(false);
        }
        let calendar = self.calendars.of(&trade.source);
        let span = self.interval.span_in(calendar, print.ts);
        let span =
            span.ok_or_else(|| corrupt(trade.position.seq, "a time that no candle holds"))?;
        self.growing = Some(CandleBuilder::new(self.symbol.clone(), self.interval, span, print));
        Ok(true)
    }

    /// No more trades come into the candle that grows.
    fn finish(&mut self) {
        let Some(growing) = self.growing.take() else { return };
        let of_candle = Span::new(Some(growing.start()), Some(growing.end()));
        if of_candle.to_ns > self.span.from_ns && of_candle.from_ns < self.span.to_ns {
            self.candles.push(growing.candle());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    fn calendars(rules: &[&str]) -> Calendars {
        Calendars::new(&rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn trade(ts: &str, seq: i64) -> Trade {
        let ts: Timestamp = ts.parse().unwrap();
        let ts_ns = i64::try_from(ts.as_nanosecond()).unwrap();
        Trade {
            position: Position { ts_ns, seq },
            source: Source::new("file").unwrap(),
            print: Print { ts, price: decimal("1"), size: None },
        }
    }

    #[test]
    fn a_span_grows_to_whole_candles() {
        let second = 1_000_000_000;
        let whole = |span, interval| super::whole(span, interval, &Calendars::default());
        assert_eq!(
            whole(Span { from_ns: -1, to_ns: second + 1 }, CandleInterval::OneSecond),
            Span { from_ns: -second, to_ns: 2 * second }
        );
        let exact = Span { from_ns: 0, to_ns: second };
        assert_eq!(whole(exact, CandleInterval::OneSecond), exact);
        let all = Span::new(None, None);
        assert_eq!(whole(all, CandleInterval::OneDay), all);
    }

    #[test]
    fn a_day_is_that_of_the_exchange() {
        let (calendars, symbol) = (calendars(&["file=XNYS"]), Symbol::new("A").unwrap());
        let day = CandleInterval::OneDay;
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let span = Span::new(time("2013-10-08T02:00:00Z"), time("2013-10-08T03:00:00Z"));
        let wide = whole(span, day, &calendars);
        assert_eq!(wide, Span::new(time("2013-10-07T04:00:00Z"), time("2013-10-09T00:00:00Z")));
        let mut builder = Builder::new(&calendars, &symbol, day, span, 1);
        for (seq, ts) in ["2013-10-07T04:00:00Z", "2013-10-08T02:00:00Z"].iter().enumerate() {
            assert!(builder.add(&trade(ts, seq as i64)).unwrap());
        }
        assert!(!builder.add(&trade("2013-10-08T05:00:00Z", 3)).unwrap());
        assert_eq!(builder.candles.len(), 1);
        assert_eq!(builder.candles[0].start.to_string(), "2013-10-07T04:00:00Z");
        assert_eq!(builder.candles[0].trades, 2);
    }

    #[test]
    fn more_trades_than_allowed_are_an_error_not_a_part_of_a_candle() {
        let (calendars, symbol) = (Calendars::default(), Symbol::new("A").unwrap());
        let all = Span::new(None, None);
        let mut builder = Builder::new(&calendars, &symbol, CandleInterval::OneDay, all, 1);
        let trade = trade("1970-01-01T00:00:00Z", 1);
        for _ in 0..MAX_TRADES {
            assert!(builder.add(&trade).unwrap());
        }
        assert!(matches!(builder.add(&trade), Err(StoreError::TooManyTrades)));
    }
}
