//! Alpha Vantage, <https://www.alphavantage.co/documentation/>: the newest quote of a symbol
//! (`GLOBAL_QUOTE`), or its newest 100 bars (`TIME_SERIES_INTRADAY`, `TIME_SERIES_DAILY`).
//!
//! One request per symbol; a free account has 25 a day
//! (<https://www.alphavantage.co/support/#api-key>). Beyond the quota the API answers 200 with a
//! `Note` or an `Information` in place of the prices, and so it does where a function is not part
//! of the account.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};
use schemas::{Format, Symbol};
use serde::Deserialize;

use super::polling::{Account, Poll, Provider};
use crate::{
    config::{self, AlphaVantageConfig, AlphaVantageFunction as Function, ConfigError},
    source::{ErrorKind, FetchError},
};

/// The lengths of intraday bars that there are.
const BARS: [&str; 5] = ["1min", "5min", "15min", "30min", "60min"];

/// How long to stay away after a notice, by what it says of the quota.
const DAY_IS_USED_UP: Duration = Duration::from_secs(60 * 60);
const MINUTE_IS_USED_UP: Duration = Duration::from_secs(60);

/// Prices of Alpha Vantage.
struct AlphaVantage {
    url: Url,
    api_key: String,
    function: Function,
    bars: String,
}

pub(super) fn new(config: &AlphaVantageConfig) -> Result<Poll, ConfigError> {
    let key = |name: &str| format!("alphavantage.{name}");
    let url = config::url(&key("url"), &config.url, &["http", "https"])?;
    if config.api_key.is_empty() {
        let fault = "a key is needed; Alpha Vantage gives one for free";
        return Err(ConfigError::new(key("api_key"), fault));
    }
    if !BARS.contains(&config.bars.as_str()) {
        let fault = format!("{:?} is none of {}", config.bars, BARS.join(", "));
        return Err(ConfigError::new(key("bars"), fault));
    }
    let interval = config::interval(&key("interval_secs"), config.interval_secs)?;
    Ok(Poll {
        name: super::source_name("alphavantage"),
        url: url.clone(),
        symbols: config::symbols(&key("symbols"), &config.symbols)?,
        interval,
        account: Account::new(config.requests_per_minute, config.requests_per_day, &config.api_key),
        provider: Box::new(AlphaVantage {
            url,
            api_key: config.api_key.clone(),
            function: config.function,
            bars: config.bars.clone(),
        }),
    })
}

impl Provider for AlphaVantage {
    fn format(&self) -> Format {
        match self.function {
            Function::GlobalQuote => Format::AlphaVantageQuote,
            Function::TimeSeriesIntraday | Function::TimeSeriesDaily => Format::AlphaVantageSeries,
        }
    }

    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder {
        let mut query: Vec<_> = match self.function {
            Function::GlobalQuote => vec![("function", "GLOBAL_QUOTE")],
            Function::TimeSeriesDaily => vec![("function", "TIME_SERIES_DAILY")],
            Function::TimeSeriesIntraday => {
                vec![("function", "TIME_SERIES_INTRADAY"), ("interval", &*self.bars)]
            }
        };
        query.extend(symbols.iter().map(|symbol| ("symbol", symbol.as_str())));
        query.push(("apikey", &self.api_key));
        client.get(self.url.clone()).query(&query)
    }

    fn fault(&self, body: &[u8]) -> Option<FetchError> {
        let notice: Notice = serde_json::from_slice(body).ok()?;
        // Some notices repeat the key.
        let told = |text: String| text.replace(&self.api_key, "***");
        if let Some(error) = notice.error {
            return Some(FetchError::new(ErrorKind::NotFound, told(error)));
        }
        let notice = told(notice.note.or(notice.information)?);
        let of_day = notice.contains("per day") || notice.contains("daily");
        let retry_after = if of_day { DAY_IS_USED_UP } else { MINUTE_IS_USED_UP };
        let error = FetchError::new(ErrorKind::RateLimited, notice);
        Some(FetchError { retry_after: Some(retry_after), ..error })
    }
}

/// What may stand where the prices should be.
#[derive(Deserialize)]
struct Notice {
    #[serde(rename = "Note")]
    note: Option<String>,
    #[serde(rename = "Information")]
    information: Option<String>,
    /// Of a request that cannot be answered, as for a symbol that is not known.
    #[serde(rename = "Error Message")]
    error: Option<String>,
}

#[cfg(test)]
mod tests;
