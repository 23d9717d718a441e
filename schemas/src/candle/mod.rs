//! Open, high, low, close and volume of a span of time.

mod builder;
mod interval;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Decimal, Symbol, tick::Utc};

pub use builder::{CandleBuilder, Inexact, Print};
pub use interval::{CandleInterval, IntervalError};

/// The trades of one symbol in one span of time. Only ticks of the kind `trade` count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candle {
    /// The symbol.
    pub symbol: Symbol,
    /// How long the span is.
    pub interval: CandleInterval,
    /// When the span begins, UTC; it holds events from here on.
    #[schemars(with = "Utc")]
    pub start: Timestamp,
    /// When the span ends, UTC; it holds events before.
    #[schemars(with = "Utc")]
    pub end: Timestamp,
    /// The first price by event time.
    pub open: Decimal,
    /// The highest price.
    pub high: Decimal,
    /// The lowest price.
    pub low: Decimal,
    /// The last price by event time.
    pub close: Decimal,
    /// The sum of the sizes.
    pub volume: Decimal,
    /// The sum of price × size; null where it has more digits than can be kept exactly.
    pub turnover: Option<Decimal>,
    /// The volume-weighted average price, turnover ÷ volume (Berkowitz, Logue and Noser, "The
    /// Total Cost of Transactions on the NYSE", Journal of Finance 43, 1988), rounded half to even
    /// to 12 significant digits; null where there is no volume or no turnover.
    pub vwap: Option<Decimal>,
    /// How many trades there were.
    pub trades: u64,
    /// When the first of them happened, UTC.
    #[schemars(with = "Utc")]
    pub first_trade: Timestamp,
    /// When the last of them happened, UTC.
    #[schemars(with = "Utc")]
    pub last_trade: Timestamp,
}

/// A candle as it is at one moment: a message of `CANDLES` where it is closed, and otherwise a
/// passing message about the candle that is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandleUpdate {
    /// The candle.
    #[serde(flatten)]
    pub candle: Candle,
    /// Its time is over. A trade that comes late all the same makes a higher revision.
    pub closed: bool,
    /// 0 while it is running, 1 when it is closed, one more each time it is restated.
    pub revision: u32,
    /// The sequence in `TICKS` of the newest trade in it: those of its span up to there are in it.
    pub seq: u64,
}

impl CandleUpdate {
    /// The id of its message in `CANDLES`: the same for the same revision of the same candle.
    pub fn message_id(&self) -> String {
        let Candle { symbol, interval, start, .. } = &self.candle;
        format!("candle:{interval}:{}:{}:{}", symbol.token(), start.as_second(), self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json_it_is_flat_and_comes_back() {
        let json = r#"{"symbol":"IBM","interval":"1m","start":"2013-10-07T13:30:00Z","end":"2013-10-07T13:31:00Z","open":"182.30","high":"182.50","low":"182.20","close":"182.4000","volume":"300","turnover":"54707.0000","vwap":"182.356666667","trades":2,"first_trade":"2013-10-07T13:30:00.464Z","last_trade":"2013-10-07T13:30:59Z","closed":true,"revision":1,"seq":17}"#;
        let update: CandleUpdate = serde_json::from_str(json).unwrap();
        assert_eq!(update.message_id(), "candle:1m:IBM:1381152600:1");
        assert_eq!(serde_json::to_string(&update).unwrap(), json);
    }
}
