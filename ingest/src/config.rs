//! What is fetched, and how: the configuration of `ingest`.

mod feeds;
mod providers;
mod sim;

use std::{collections::BTreeSet, time::Duration};

use reqwest::{Url, header::HeaderValue};
use schemars::JsonSchema;
use schemas::{HtmlSite, Records, Symbol};
use serde::{Deserialize, Serialize};

use crate::{Error, access::MIN_KEY, archive::ArchiveConfig, push::PushConfig, sources};

pub use feeds::{
    AlpacaConfig, AlpacaEncoding, AlpacaFeed, BinanceConfig, CoinbaseConfig, KrakenConfig,
};
pub use providers::{
    AlphaVantageConfig, AlphaVantageFunction, FinnhubConfig, FinnhubMode, StooqConfig,
    TwelveDataConfig, TwelveDataEndpoint, YahooConfig,
};
pub use sim::SimConfig;

/// What is fetched, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address of the HTTP listener; port 0 is any free one.
    pub listen: String,
    /// Secret: whoever changes sources over HTTP shows it as `Authorization: Bearer <key>`; at least
    /// 16 bytes. Empty: whoever reaches the service may change them.
    pub admin_key: String,
    /// The sources to run: `sim`, `file`, `coinbase`, `kraken`, `binance`, `alpaca`,
    /// `finnhub`, `alphavantage`, `yahoo`, `twelvedata`, `stooq`, `html:<site>`.
    pub sources: Vec<String>,
    /// The simulator.
    pub sim: SimConfig,
    /// The replay of a file.
    pub file: FileConfig,
    /// The WebSocket feed of Coinbase Exchange.
    pub coinbase: CoinbaseConfig,
    /// The WebSocket feed of Kraken.
    pub kraken: KrakenConfig,
    /// The WebSocket streams of Binance.
    pub binance: BinanceConfig,
    /// The stream of stock trades of Alpaca.
    pub alpaca: AlpacaConfig,
    /// Alpha Vantage: quotes, or bars.
    pub alphavantage: AlphaVantageConfig,
    /// The bars of Yahoo Finance's charts, which need no account.
    pub yahoo: YahooConfig,
    /// Finnhub: trades as they happen, or quotes now and then.
    pub finnhub: FinnhubConfig,
    /// Twelve Data: bars or quotes, many symbols a request.
    pub twelvedata: TwelveDataConfig,
    /// The quotes of Stooq, many symbols a request.
    pub stooq: StooqConfig,
    /// Secret: whose own prices are taken by `POST /ticks/push:<name>`: an array of tables
    /// `[[ingest.push]]` with a `name`, a `key` and a `format`, `csv` or `ndjson`.
    pub push: Vec<PushConfig>,
    /// The browser for web pages that need JavaScript.
    pub browser: BrowserConfig,
    /// Where every raw payload is kept.
    pub archive: ArchiveConfig,
    /// Where what is fetched waits while NATS is away.
    pub spool: SpoolConfig,
}

/// The disk spool: what feeds and polls fetch while NATS is away waits in the folder `spool` of the
/// data directory. The simulator and the replay of a file wait themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// How many bytes the spool of a source may have; 0 is no spool. A source whose spool is full, or
    /// that has none, is paused while NATS is away. What was in flight when NATS went, at most 32 MiB,
    /// is spooled in any case.
    pub max_bytes: u64,
}

/// The replay of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The file: CSV or NDJSON, plain or compressed with gzip or Zstandard. What its columns or
    /// fields are called says `[[records]]` with the source `file`; without it they are those of
    /// a tick: `symbol`, `price`, `ts` (of CSV `ts_ms`, too), `size`, `exchange` and `currency`.
    pub path: String,
    /// What is in it: `csv`, `ndjson`, or `auto` for what its name says: NDJSON where it ends with
    /// `.ndjson` or `.jsonl`, before a `.gz` or `.zst`.
    pub format: FileFormat,
    /// The header line of a CSV file that has none: the names of its columns.
    pub header: String,
    /// How much faster than in reality: `1x`, `60x`, or `max` for as fast as the pipeline takes it.
    pub speed: String,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// What its name says.
    #[default]
    Auto,
    /// CSV (RFC 4180).
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// The browser for web pages that need JavaScript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrowserConfig {
    /// The program, Chromium or Chrome; empty is the one on PATH.
    pub program: String,
    /// Whether it runs in its sandbox, which keeps a page that breaks out of the browser from the
    /// machine. It cannot as root, nor where a container forbids user namespaces.
    pub sandbox: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            admin_key: String::new(),
            sources: vec!["sim".to_owned()],
            sim: SimConfig::default(),
            file: FileConfig::default(),
            coinbase: CoinbaseConfig::default(),
            kraken: KrakenConfig::default(),
            binance: BinanceConfig::default(),
            alpaca: AlpacaConfig::default(),
            alphavantage: AlphaVantageConfig::default(),
            yahoo: YahooConfig::default(),
            finnhub: FinnhubConfig::default(),
            twelvedata: TwelveDataConfig::default(),
            stooq: StooqConfig::default(),
            push: Vec::new(),
            browser: BrowserConfig::default(),
            archive: ArchiveConfig::default(),
            spool: SpoolConfig::default(),
        }
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { max_bytes: 256 * 1024 * 1024 }
    }
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            format: FileFormat::Auto,
            header: String::new(),
            speed: "1x".to_owned(),
        }
    }
}

impl Default for BrowserConfig {
    fn default() -> Self {
        Self { program: String::new(), sandbox: true }
    }
}

/// A value of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ingest.{key}: {fault}")]
pub struct ConfigError {
    key: String,
    fault: String,
}

impl ConfigError {
    /// `key` is the rest of the key after `ingest.`.
    pub(crate) fn new(key: impl Into<String>, fault: impl ToString) -> Self {
        Self { key: key.into(), fault: fault.to_string() }
    }
}

impl Config {
    /// Checks everything that the chosen sources need, and opens the replay file if there is one.
    /// `sites` are the web pages that `html:<site>` may name, and `records` how files are read.
    pub fn check(&self, sites: &[HtmlSite], records: &[Records]) -> Result<(), Error> {
        self.symbols(sites, records).map(drop)
    }

    /// Checks the same, and tells the symbols that the chosen sources are to fetch.
    pub(crate) fn symbols(
        &self,
        sites: &[HtmlSite],
        records: &[Records],
    ) -> Result<BTreeSet<Symbol>, Error> {
        let sources = sources::build(self, sites, records)?;
        PushConfig::check(&self.push)?;
        if (1..MIN_KEY).contains(&self.admin_key.len()) {
            let fault = format!("it is shorter than {MIN_KEY} bytes");
            return Err(ConfigError::new("admin_key", fault).into());
        }
        self.archive.validate()?;
        Ok(sources.iter().flat_map(|source| source.symbols()).collect())
    }
}

/// The symbols of a source: at least one, each of them valid, none of them twice.
pub(crate) fn symbols(key: &str, names: &[String]) -> Result<Vec<Symbol>, ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::new(key, "at least one symbol is needed"));
    }
    let mut symbols = Vec::with_capacity(names.len());
    for name in names {
        let symbol = Symbol::new(name).map_err(|fault| ConfigError::new(key, fault))?;
        if symbols.contains(&symbol) {
            return Err(ConfigError::new(key, format!("{name:?} is there twice")));
        }
        symbols.push(symbol);
    }
    Ok(symbols)
}

/// An address with one of these schemes. What is wrong is told without the address: there may be a
/// key in it.
pub(crate) fn url(key: &str, text: &str, schemes: &[&str]) -> Result<Url, ConfigError> {
    let url = Url::parse(text)
        .map_err(|fault| ConfigError::new(key, format!("it is not a URL: {fault}")))?;
    if schemes.contains(&url.scheme()) && url.has_host() {
        Ok(url)
    } else {
        let wanted = schemes.join(":// or ");
        let scheme = url.scheme();
        Err(ConfigError::new(key, format!("it begins with {scheme}:, not with {wanted}://")))
    }
}

/// Appends segments to the path of an address, escaped as they need be.
pub(crate) fn append(url: &mut Url, segments: &[&str]) {
    // Only an address that has no path refuses, and those of the schemes here have one.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
}

/// A secret that goes into a header; what is wrong is told without it.
pub(crate) fn header(key: &str, secret: &str) -> Result<(), ConfigError> {
    match HeaderValue::from_str(secret) {
        Ok(_) => Ok(()),
        Err(_) => Err(ConfigError::new(key, "it has characters that a header cannot carry")),
    }
}

/// An address to be shown: without credentials, and without what its query says.
pub(crate) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Only an address without a host refuses, and that has no credentials.
    let _ = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.set_query(url.query().map(|_| "***"));
    shown.set_fragment(None);
    shown.into()
}

/// How long to wait between two requests, at most a month.
pub(crate) fn interval(key: &str, secs: u64) -> Result<Duration, ConfigError> {
    const MONTH: u64 = 31 * 24 * 60 * 60;
    match secs {
        1..=MONTH => Ok(Duration::from_secs(secs)),
        _ => Err(ConfigError::new(key, format!("must be 1 to {MONTH}, not {secs}"))),
    }
}

/// A number that must not be 0.
pub(crate) fn at_least_one<N: PartialEq + From<u8>>(
    key: &str,
    number: N,
) -> Result<N, ConfigError> {
    if number == N::from(0) { Err(ConfigError::new(key, "must be at least 1")) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check(&[], &[]).unwrap_err().to_string()
    }

    fn sources(config: &mut Config, names: &[&str]) {
        config.sources = names.iter().map(|&name| name.to_owned()).collect();
    }

    #[test]
    fn the_defaults_are_right() {
        Config::default().check(&[], &[]).unwrap();
    }

    #[test]
    fn a_fault_names_its_key() {
        for (change, expected) in [
            (
                (|c| sources(c, &["foo"])) as fn(&mut Config),
                "ingest.sources: \"foo\" is not a source: sim, file, coinbase, kraken, binance, alpaca, alphavantage, yahoo, finnhub, twelvedata, stooq or html:<site>",
            ),
            (
                |c| sources(c, &["html:shop"]),
                "ingest.sources: \"html:shop\": no site \"shop\" is configured",
            ),
            (|c| sources(c, &["sim", "sim"]), "ingest.sources: \"sim\" is there twice"),
            (|c| c.admin_key = "hush".into(), "ingest.admin_key: it is shorter than 16 bytes"),
            (|c| c.sim.ticks_per_sec = 0, "ingest.sim.ticks_per_sec: must be 1 to 1000000, not 0"),
            (|c| c.sim.symbols.clear(), "ingest.sim.symbols: at least one symbol is needed"),
            (|c| c.sim.symbols.push("AAPL".into()), "ingest.sim.symbols: \"AAPL\" is there twice"),
            (|c| sources(c, &["file"]), "ingest.file.path: no file is named"),
            (
                |c| {
                    sources(c, &["file"]);
                    c.file.path = "/no/such/file.csv".into();
                },
                "ingest.file.path: \"/no/such/file.csv\" cannot be read: No such file or directory (os error 2)",
            ),
            (
                |c| {
                    sources(c, &["coinbase"]);
                    c.coinbase.url = "https://example.com".into();
                },
                "ingest.coinbase.url: it begins with https:, not with ws:// or wss://",
            ),
            (
                |c| {
                    sources(c, &["yahoo"]);
                    c.yahoo.interval_secs = u64::MAX;
                },
                "ingest.yahoo.interval_secs: must be 1 to 2678400, not 18446744073709551615",
            ),
            (
                |c| sources(c, &["alphavantage"]),
                "ingest.alphavantage.api_key: a key is needed; Alpha Vantage gives one for free",
            ),
        ] {
            assert_eq!(fault(change), expected);
        }
    }

    #[test]
    fn no_secret_of_an_address_is_shown() {
        let shown = |text| shown(&Url::parse(text).unwrap());
        assert_eq!(
            shown("https://me:k3y@example.com/q?apikey=k3y#k3y"),
            "https://example.com/q?***"
        );
        assert_eq!(shown("wss://k3y@example.com:1/feed"), "wss://example.com:1/feed");
        for text in ["https://me:k3y@exa mple.com", "ftp://me:k3y@example.com/?k3y", "k3y"] {
            let fault = url("coinbase.url", text, &["ws", "wss"]).unwrap_err().to_string();
            assert!(!fault.contains("k3y"), "{fault}");
        }
    }

    #[test]
    fn what_is_not_run_is_not_checked() {
        let mut config = Config::default();
        config.alphavantage.interval_secs = 0;
        config.file.path = "/no/such/file.csv".into();
        config.check(&[], &[]).unwrap();
    }
}
