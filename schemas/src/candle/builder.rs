//! A candle while it grows, exactly.

use jiff::Timestamp;

use super::{Candle, CandleInterval};
use crate::{Decimal, Symbol};

/// The significant digits of [`Candle::vwap`].
const VWAP_DIGITS: u32 = 12;

/// What a candle needs of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    /// When it happened.
    pub ts: Timestamp,
    /// At which price.
    pub price: Decimal,
    /// How many; none counts as a trade without volume.
    pub size: Option<Decimal>,
}

/// The volume would have more digits than can be kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the volume has more digits than can be kept exactly")]
pub struct Inexact;

/// A candle while it grows. Trades may come in any order of time; of two of the same time the one
/// that comes later is the later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandleBuilder {
    candle: Candle,
}

impl CandleBuilder {
    /// The candle of the span from `span.0` until before `span.1`, of its first trade.
    pub fn new(
        symbol: Symbol,
        interval: CandleInterval,
        span: (Timestamp, Timestamp),
        first: &Print,
    ) -> Self {
        let size = first.size.unwrap_or(Decimal::ZERO);
        Self {
            candle: Candle {
                symbol,
                interval,
                start: span.0,
                end: span.1,
                open: first.price,
                high: first.price,
                low: first.price,
                close: first.price,
                volume: size,
                turnover: first.price.exact_mul(size),
                vwap: None,
                trades: 1,
                first_trade: first.ts,
                last_trade: first.ts,
            },
        }
    }

    /// Goes on with a candle as it was.
    pub fn resume(candle: Candle) -> Self {
        Self { candle }
    }

    /// Takes a trade of its span in, or leaves it out where the volume would not be exact any more.
    pub fn add(&mut self, print: &Print) -> Result<(), Inexact> {
        let size = print.size.unwrap_or(Decimal::ZERO);
        let candle = &mut self.candle;
        candle.volume = candle.volume.exact_add(size).ok_or(Inexact)?;
        let turnover = print.price.exact_mul(size);
        candle.turnover = candle.turnover.zip(turnover).and_then(|(sum, more)| sum.exact_add(more));
        candle.high = candle.high.max(print.price);
        candle.low = candle.low.min(print.price);
        if print.ts < candle.first_trade {
            (candle.first_trade, candle.open) = (print.ts, print.price);
        }
        if print.ts >= candle.last_trade {
            (candle.last_trade, candle.close) = (print.ts, print.price);
        }
        candle.trades += 1;
        Ok(())
    }

    /// When its span begins.
    pub fn start(&self) -> Timestamp {
        self.candle.start
    }

    /// When its span ends.
    pub fn end(&self) -> Timestamp {
        self.candle.end
    }

    /// The candle of the trades so far.
    pub fn candle(&self) -> Candle {
        let average = |turnover: Decimal| turnover.ratio(self.candle.volume, VWAP_DIGITS);
        Candle { vwap: self.candle.turnover.and_then(average), ..self.candle.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    fn print(second: i64, price: &str, size: &str) -> Print {
        let ts = Timestamp::from_second(second).unwrap();
        Print { ts, price: decimal(price), size: Some(decimal(size)) }
    }

    fn built(prints: &[Print]) -> Candle {
        let interval = CandleInterval::OneMinute;
        let (first, rest) = prints.split_first().unwrap();
        let span = interval.span(first.ts).unwrap();
        let mut builder = CandleBuilder::new(Symbol::new("A").unwrap(), interval, span, first);
        for print in rest {
            builder.add(print).unwrap();
        }
        builder.candle()
    }

    #[test]
    fn open_and_close_go_by_event_time_and_the_rest_by_value() {
        let candle = built(&[
            print(5, "10.00", "1"),
            print(3, "9.5", "2"),
            print(5, "12", "0"),
            print(4, "8.25", "1"),
        ]);
        let texts = [candle.open, candle.high, candle.low, candle.close, candle.volume]
            .map(|number| number.to_string());
        assert_eq!(texts, ["9.5", "12", "8.25", "12", "4"]);
        assert_eq!(candle.turnover, Some(decimal("37.25")));
        assert_eq!(candle.vwap, Some(decimal("9.3125")));
        assert_eq!((candle.trades, candle.first_trade.as_second()), (4, 3));
    }

    #[test]
    fn the_average_is_rounded_half_to_even_and_absent_without_volume() {
        let vwap = |prints: &[Print]| built(prints).vwap.map(|vwap| vwap.to_string());
        assert_eq!(vwap(&[print(1, "1", "2"), print(1, "2", "1")]).unwrap(), "1.33333333333");
        assert_eq!(
            vwap(&[print(1, "1.00000000000", "1"), print(1, "1.00000000001", "1")]).unwrap(),
            "1"
        );
        assert_eq!(
            vwap(&[print(1, "1.00000000001", "1"), print(1, "1.00000000002", "1")]).unwrap(),
            "1.00000000002"
        );
        assert_eq!(vwap(&[print(1, "1", "0")]), None);
    }

    /// As currencies have it, and quotes of no size.
    #[test]
    fn a_trade_of_nothing_takes_nothing_from_the_others() {
        for prints in [
            [print(1, "1.25", "0.00"), print(2, "2", "3")],
            [print(1, "2", "3"), print(2, "1.25", "0.00")],
        ] {
            let candle = built(&prints);
            assert_eq!((candle.volume, candle.trades), (decimal("3"), 2));
            assert_eq!((candle.turnover, candle.vwap), (Some(decimal("6")), Some(decimal("2"))));
        }
    }

    #[test]
    fn what_cannot_be_exact_is_absent_or_an_error() {
        let huge = "79228162514264337593543950335";
        let candle = built(&[print(1, huge, "2"), print(2, "1", "1")]);
        assert_eq!((candle.turnover, candle.vwap, candle.trades), (None, None, 2));
        let span = CandleInterval::OneSecond.span(Timestamp::UNIX_EPOCH).unwrap();
        let symbol = Symbol::new("A").unwrap();
        let first = print(0, "1", huge);
        let mut builder = CandleBuilder::new(symbol, CandleInterval::OneSecond, span, &first);
        let before = builder.clone();
        assert_eq!(builder.add(&print(0, "1", "1")), Err(Inexact));
        assert_eq!(builder, before);
    }
}
