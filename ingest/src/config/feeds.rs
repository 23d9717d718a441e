//! The configuration of the streaming feeds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The WebSocket feed of Coinbase Exchange, which needs no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CoinbaseConfig {
    /// The address of the feed.
    pub url: String,
    /// The products to follow, as Coinbase names them, such as `BTC-USD`.
    pub symbols: Vec<String>,
    /// At most so many products are followed over one connection, and over as many connections as
    /// that takes, at most 64; 0 is one connection for all. Coinbase advises several.
    pub symbols_per_connection: usize,
}

/// The WebSocket feed of Kraken, which needs no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KrakenConfig {
    /// The address of the feed, version 2.
    pub url: String,
    /// The pairs to follow, as Kraken names them there, such as `BTC/USD`.
    pub symbols: Vec<String>,
    /// At most so many pairs are followed over one connection, and over as many connections as that
    /// takes, at most 64; 0 is one connection for all.
    pub symbols_per_connection: usize,
}

/// The WebSocket streams of Binance, which need no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BinanceConfig {
    /// The address of the streams.
    pub url: String,
    /// The symbols to follow, as Binance names them, such as `BTCUSDT`.
    pub symbols: Vec<String>,
    /// At most so many symbols are followed over one connection, and over as many connections as that
    /// takes, at most 64; 0 is what Binance allows, 1024.
    pub symbols_per_connection: usize,
}

/// The stream of stock trades of Alpaca, which needs an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlpacaConfig {
    /// The address of the stream, without the feed.
    pub url: String,
    /// Which trades: `iex` those of one exchange, for free; `sip` those of all; `test` made-up ones
    /// of the symbol `FAKEPACA`, at any hour.
    pub feed: AlpacaFeed,
    /// How messages are written: `json`, or `msgpack`, which is shorter.
    pub encoding: AlpacaEncoding,
    /// Secret: the key id of the account.
    pub key_id: String,
    /// Secret: the key that belongs to it.
    pub secret_key: String,
    /// The stocks to follow.
    pub symbols: Vec<String>,
}

/// Which trades Alpaca sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlpacaFeed {
    /// Those of the Investors Exchange.
    Iex,
    /// Those of all exchanges of the United States.
    Sip,
    /// Made-up ones.
    Test,
}

/// How Alpaca writes its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlpacaEncoding {
    /// As JSON.
    Json,
    /// As MessagePack.
    Msgpack,
}

impl AlpacaFeed {
    /// As at the end of the address.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Iex => "iex",
            Self::Sip => "sip",
            Self::Test => "test",
        }
    }
}

impl Default for CoinbaseConfig {
    fn default() -> Self {
        Self {
            url: "wss://ws-feed.exchange.coinbase.com".to_owned(),
            symbols: vec!["BTC-USD".to_owned(), "ETH-USD".to_owned()],
            symbols_per_connection: 0,
        }
    }
}

impl Default for KrakenConfig {
    fn default() -> Self {
        Self {
            url: "wss://ws.kraken.com/v2".to_owned(),
            symbols: vec!["BTC/USD".to_owned(), "ETH/USD".to_owned()],
            symbols_per_connection: 0,
        }
    }
}

impl Default for BinanceConfig {
    fn default() -> Self {
        Self {
            url: "wss://data-stream.binance.vision/ws".to_owned(),
            symbols: vec!["BTCUSDT".to_owned(), "ETHUSDT".to_owned()],
            symbols_per_connection: 0,
        }
    }
}

impl Default for AlpacaConfig {
    fn default() -> Self {
        Self {
            url: "wss://stream.data.alpaca.markets/v2".to_owned(),
            feed: AlpacaFeed::Iex,
            encoding: AlpacaEncoding::Json,
            key_id: String::new(),
            secret_key: String::new(),
            symbols: Vec::new(),
        }
    }
}
