//! What the providers of the feeds say and are told, as they document it.

use jiff::Timestamp;
use schemas::{Format, Symbol, rfc3339_nanos};
use serde::Deserialize;
use serde_json::{Value, json};

/// A provider of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    Coinbase,
    Kraken,
    Binance,
}

impl Feed {
    pub(super) const ALL: [Self; 3] = [Self::Coinbase, Self::Kraken, Self::Binance];

    /// The name of the source, and of its path at the stub.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coinbase => "coinbase",
            Self::Kraken => "kraken",
            Self::Binance => "binance",
        }
    }

    pub(super) fn format(self) -> Format {
        match self {
            Self::Coinbase => Format::CoinbaseMatch,
            Self::Kraken => Format::KrakenTrade,
            Self::Binance => Format::BinanceTrade,
        }
    }

    /// The symbol of a number, as the provider writes symbols.
    pub(super) fn symbol(self, number: usize) -> String {
        match self {
            Self::Coinbase => format!("C{number:03}-USD"),
            Self::Kraken => format!("K{number:03}/USD"),
            Self::Binance => format!("B{number:03}USDT"),
        }
    }

    /// The request to follow symbols.
    pub(super) fn request(self, symbols: &[String]) -> Value {
        match self {
            Self::Coinbase => json!({
                "type": "subscribe", "product_ids": symbols, "channels": ["matches", "heartbeat"],
            }),
            Self::Kraken => json!({
                "method": "subscribe",
                "params": { "channel": "trade", "symbol": symbols, "snapshot": false },
                "req_id": 1,
            }),
            Self::Binance => {
                let stream = |symbol: &String| format!("{}@trade", symbol.to_lowercase());
                let streams: Vec<_> = symbols.iter().map(stream).collect();
                json!({ "method": "SUBSCRIBE", "params": streams, "id": 1 })
            }
        }
    }

    /// The symbols that a request asks for.
    pub(super) fn asked(self, request: &Value) -> Vec<String> {
        let list = match self {
            Self::Coinbase => &request["product_ids"],
            Self::Kraken => &request["params"]["symbol"],
            Self::Binance => &request["params"],
        };
        let names = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        let symbol = |name: &str| match self {
            Self::Binance => name.trim_end_matches("@trade").to_uppercase(),
            Self::Coinbase | Self::Kraken => name.to_owned(),
        };
        names.map(symbol).collect()
    }

    /// The answers to a request, when these symbols are followed with it.
    pub(super) fn answers(self, request: &Value, followed: &[String]) -> Vec<Value> {
        match self {
            Self::Coinbase => vec![json!({
                "type": "subscriptions",
                "channels": [
                    { "name": "matches", "product_ids": followed },
                    { "name": "heartbeat", "product_ids": followed },
                ],
            })],
            Self::Kraken => {
                let number = &request["req_id"];
                let done = |symbol: String| {
                    json!({
                        "method": "subscribe", "success": true, "req_id": number,
                        "result": { "channel": "trade", "snapshot": false, "symbol": symbol },
                    })
                };
                self.asked(request).into_iter().map(done).collect()
            }
            Self::Binance => vec![json!({ "result": null, "id": request["id"] })],
        }
    }

    /// A trade.
    pub(super) fn trade(self, symbol: &str, number: u64, now: Timestamp) -> String {
        let (time, ms, cents) = (rfc3339_nanos(now), now.as_millisecond(), number % 100);
        match self {
            Self::Coinbase => format!(
                r#"{{"type":"match","trade_id":{number},"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","taker_order_id":"132fb6ae-456b-4654-b4e0-d681ac05cea1","side":"sell","size":"5.23512","price":"400.{cents:02}","product_id":"{symbol}","sequence":{number},"time":"{time}"}}"#
            ),
            Self::Kraken => format!(
                r#"{{"channel":"trade","type":"update","data":[{{"symbol":"{symbol}","side":"sell","price":400.{cents:02},"qty":40.0,"ord_type":"market","trade_id":{number},"timestamp":"{time}"}}]}}"#
            ),
            Self::Binance => format!(
                r#"{{"e":"trade","E":{ms},"s":"{symbol}","t":{number},"p":"400.{cents:02}000000","q":"100.00000000","T":{ms},"m":true,"M":true}}"#
            ),
        }
    }

    /// What comes each second for a symbol beside its trades.
    pub(super) fn heartbeat(self, symbol: &str, number: u64, now: Timestamp) -> Option<String> {
        let time = rfc3339_nanos(now);
        let text = format!(
            r#"{{"type":"heartbeat","sequence":{number},"last_trade_id":{number},"product_id":"{symbol}","time":"{time}"}}"#
        );
        (self == Self::Coinbase).then_some(text)
    }

    /// The symbol and the number of a trade; nothing of what is none.
    pub(super) fn read(self, text: &str) -> Option<(Symbol, u64)> {
        match self {
            Self::Coinbase => {
                #[derive(Deserialize)]
                struct Match {
                    r#type: String,
                    product_id: Symbol,
                    trade_id: u64,
                }
                let trade: Match = serde_json::from_str(text).ok()?;
                (trade.r#type == "match").then_some((trade.product_id, trade.trade_id))
            }
            Self::Kraken => {
                #[derive(Deserialize)]
                struct Update {
                    data: [Trade; 1],
                }
                #[derive(Deserialize)]
                struct Trade {
                    symbol: Symbol,
                    trade_id: u64,
                }
                let Update { data: [trade] } = serde_json::from_str(text).ok()?;
                Some((trade.symbol, trade.trade_id))
            }
            Self::Binance => {
                #[derive(Deserialize)]
                struct Trade {
                    s: Symbol,
                    t: u64,
                }
                let trade: Trade = serde_json::from_str(text).ok()?;
                Some((trade.s, trade.t))
            }
        }
    }
}

/// A quote as Finnhub answers it, the `number`th of its symbol.
pub(super) fn quote(number: u64, now: Timestamp) -> String {
    let (dollars, cents, secs) = (100 + number / 100, number % 100, now.as_second());
    format!(
        r#"{{"c":{dollars}.{cents:02},"d":1.29,"dp":0.4953,"h":263.31,"l":60.68,"o":261.07,"pc":260.45,"t":{secs}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_answered_and_traded() {
        for feed in Feed::ALL {
            let symbols = [feed.symbol(7), feed.symbol(8)];
            let request = feed.request(&symbols);
            assert_eq!(feed.asked(&request), symbols);
            for answer in feed.answers(&request, &symbols) {
                assert_eq!(feed.read(&answer.to_string()), None, "{answer}");
            }
            let now = Timestamp::now();
            let (symbol, number) = feed.read(&feed.trade(&symbols[1], 42, now)).unwrap();
            assert_eq!((symbol.as_str(), number), (&*symbols[1], 42));
            let heartbeat = feed.heartbeat(&symbols[0], 42, now);
            assert_eq!(heartbeat.and_then(|text| feed.read(&text)), None);
        }
    }

    #[test]
    fn no_two_quotes_of_a_symbol_are_the_same() {
        let now = Timestamp::now();
        let quotes: std::collections::BTreeSet<_> = (0..1_000).map(|n| quote(n, now)).collect();
        assert_eq!(quotes.len(), 1_000);
        let read: Value = serde_json::from_str(&quote(205, now)).unwrap();
        assert_eq!(read["c"], json!(102.05));
    }
}
