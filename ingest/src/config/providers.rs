//! The providers that are polled. Where a quota is a default, it is that of the free account, or
//! what seems polite where the provider documents none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Alpha Vantage: quotes, or bars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlphaVantageConfig {
    /// The address of the API.
    pub url: String,
    /// Secret: the key of the account.
    pub api_key: String,
    /// The symbols to ask for.
    pub symbols: Vec<String>,
    /// What is asked for: `GLOBAL_QUOTE`, the newest quote; `TIME_SERIES_INTRADAY` or
    /// `TIME_SERIES_DAILY`, the newest 100 bars.
    pub function: AlphaVantageFunction,
    /// The length of intraday bars: `1min`, `5min`, `15min`, `30min` or `60min`.
    pub bars: String,
    /// How long to wait between two requests for a symbol, in seconds; the quota may make it longer.
    pub interval_secs: u64,
    /// The quota of the account: how many requests a minute, for all symbols together; 0 is no limit.
    pub requests_per_minute: u32,
    /// The quota of the account: how many requests a day, for all symbols together; 0 is no limit.
    pub requests_per_day: u32,
}

/// What Alpha Vantage is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlphaVantageFunction {
    /// The newest quote.
    GlobalQuote,
    /// The newest bars within the day.
    TimeSeriesIntraday,
    /// The newest bars of a day each.
    TimeSeriesDaily,
}

impl Default for AlphaVantageConfig {
    fn default() -> Self {
        Self {
            url: "https://www.alphavantage.co/query".to_owned(),
            api_key: String::new(),
            symbols: Vec::new(),
            function: AlphaVantageFunction::GlobalQuote,
            bars: "5min".to_owned(),
            interval_secs: 60,
            requests_per_minute: 5,
            requests_per_day: 25,
        }
    }
}

/// The bars of Yahoo Finance's charts, which need no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct YahooConfig {
    /// The address of the API, up to where the symbol follows.
    pub url: String,
    /// The symbols to ask for, as Yahoo names them, such as `BMW.DE` or `EURUSD=X`.
    pub symbols: Vec<String>,
    /// The length of the bars, such as `1m`, `5m`, `1h` or `1d`.
    pub bars: String,
    /// How long to wait between two requests for a symbol, in seconds; the quota may make it longer.
    pub interval_secs: u64,
    /// How many requests a minute, for all symbols together; 0 is no limit.
    pub requests_per_minute: u32,
    /// How many requests a day, for all symbols together; 0 is no limit.
    pub requests_per_day: u32,
}

impl Default for YahooConfig {
    fn default() -> Self {
        Self {
            url: "https://query1.finance.yahoo.com/v8/finance/chart".to_owned(),
            symbols: Vec::new(),
            bars: "1m".to_owned(),
            interval_secs: 60,
            requests_per_minute: 30,
            requests_per_day: 0,
        }
    }
}

/// Finnhub: trades as they happen, or quotes now and then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FinnhubConfig {
    /// `trades` follows the WebSocket feed, `quotes` polls the newest quotes.
    pub mode: FinnhubMode,
    /// The address of the API, which quotes are asked for at.
    pub url: String,
    /// The address of the WebSocket feed of trades.
    pub stream_url: String,
    /// Secret: the key of the account.
    pub api_key: String,
    /// The symbols to follow.
    pub symbols: Vec<String>,
    /// How long to wait between two quotes of a symbol, in seconds; the quota may make it longer.
    pub interval_secs: u64,
    /// The quota of the account: how many requests a minute, for all symbols together; 0 is no limit.
    pub requests_per_minute: u32,
}

/// What of Finnhub is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinnhubMode {
    /// The WebSocket feed of trades.
    Trades,
    /// The newest quotes.
    Quotes,
}

impl Default for FinnhubConfig {
    fn default() -> Self {
        Self {
            mode: FinnhubMode::Trades,
            url: "https://finnhub.io/api/v1".to_owned(),
            stream_url: "wss://ws.finnhub.io".to_owned(),
            api_key: String::new(),
            symbols: Vec::new(),
            interval_secs: 60,
            requests_per_minute: 60,
        }
    }
}

/// Twelve Data: bars or quotes, many symbols a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TwelveDataConfig {
    /// The address of the API.
    pub url: String,
    /// Secret: the key of the account.
    pub api_key: String,
    /// The symbols to ask for, as Twelve Data names them, such as `EUR/USD` or `SBIN:NSE`.
    pub symbols: Vec<String>,
    /// What is asked for: `quote`, the newest quotes; `time_series`, the newest bars.
    pub endpoint: TwelveDataEndpoint,
    /// The length of the bars, such as `1min`, `1h` or `1day`.
    pub bars: String,
    /// How many bars of each symbol are asked for: 1 to 100.
    pub bar_count: u32,
    /// How long to wait between two requests for a symbol, in seconds; the quota may make it longer.
    pub interval_secs: u64,
    /// The quota of the account: how many credits a minute, of which each symbol of a request takes
    /// one; 0 is no limit.
    pub credits_per_minute: u32,
    /// The quota of the account: how many credits a day; 0 is no limit.
    pub credits_per_day: u32,
}

/// What Twelve Data is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TwelveDataEndpoint {
    /// The newest quotes.
    Quote,
    /// The newest bars.
    TimeSeries,
}

impl Default for TwelveDataConfig {
    fn default() -> Self {
        Self {
            url: "https://api.twelvedata.com".to_owned(),
            api_key: String::new(),
            symbols: Vec::new(),
            endpoint: TwelveDataEndpoint::Quote,
            bars: "1min".to_owned(),
            bar_count: 3,
            interval_secs: 60,
            credits_per_minute: 8,
            credits_per_day: 800,
        }
    }
}

/// The quotes of Stooq, many symbols a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StooqConfig {
    /// The address of the CSV download of quotes.
    pub url: String,
    /// Secret: the key of the account, where one is needed.
    pub api_key: String,
    /// The symbols to ask for, as Stooq names them, such as `aapl.us` or `^spx`.
    pub symbols: Vec<String>,
    /// How long to wait between two quotes of a symbol, in seconds; the quota may make it longer.
    pub interval_secs: u64,
    /// How many requests a minute, for all symbols together; 0 is no limit.
    pub requests_per_minute: u32,
    /// How many requests a day, for all symbols together; 0 is no limit.
    pub requests_per_day: u32,
}

impl Default for StooqConfig {
    fn default() -> Self {
        Self {
            url: "https://stooq.com/q/l/".to_owned(),
            api_key: String::new(),
            symbols: Vec::new(),
            interval_secs: 300,
            requests_per_minute: 10,
            requests_per_day: 300,
        }
    }
}
