//! The newest quotes of Stooq, many symbols a request, as CSV: <https://stooq.com/q/l/>.
//!
//! Stooq documents no quota; who asks too often is told `Exceeded the daily hits limit` with status
//! 200. A symbol that it does not know, or that has not been traded, has `N/D` in every column.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};
use schemas::{Format, Symbol};

use super::{
    fetch::Expected,
    polling::{Account, Poll, Provider},
};
use crate::{
    config::{self, ConfigError, StooqConfig},
    source::{ErrorKind, FetchError},
};

/// How many symbols a request asks for at most.
const BATCH: usize = 50;

/// The columns: symbol, date, time, open, high, low, close, volume.
const COLUMNS: &str = "sd2t2ohlcv";

/// How every answer begins.
const HEADER: &[u8] = b"Symbol,";

/// How long to stay away when the day's requests are used up.
const DAY_IS_USED_UP: Duration = Duration::from_secs(60 * 60);

/// Quotes of Stooq.
struct Stooq {
    url: Url,
    api_key: String,
}

pub(super) fn new(config: &StooqConfig) -> Result<Poll, ConfigError> {
    let key = |name: &str| format!("stooq.{name}");
    let url = config::url(&key("url"), &config.url, &["http", "https"])?;
    let interval = config::interval(&key("interval_secs"), config.interval_secs)?;
    Ok(Poll {
        name: super::source_name("stooq"),
        url: url.clone(),
        symbols: config::symbols(&key("symbols"), &config.symbols)?,
        interval,
        account: Account::new(config.requests_per_minute, config.requests_per_day, &config.api_key),
        provider: Box::new(Stooq { url, api_key: config.api_key.clone() }),
    })
}

impl Provider for Stooq {
    fn format(&self) -> Format {
        Format::StooqQuotes
    }

    fn expected(&self) -> Expected {
        Expected::Csv
    }

    fn batch(&self) -> usize {
        BATCH
    }

    /// `aapl.us` is answered as `AAPL.US`.
    fn subject<'a>(&self, _symbols: &'a [Symbol]) -> Option<&'a Symbol> {
        None
    }

    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder {
        // Separated by spaces, which an address writes as `+`.
        let symbols: Vec<_> = symbols.iter().map(Symbol::as_str).collect();
        let mut query = vec![("s", symbols.join(" ")), ("f", COLUMNS.to_owned())];
        query.extend([("h", String::new()), ("e", "csv".to_owned())]);
        if !self.api_key.is_empty() {
            query.push(("apikey", self.api_key.clone()));
        }
        client.get(self.url.clone()).query(&query)
    }

    fn fault(&self, body: &[u8]) -> Option<FetchError> {
        if body.trim_ascii_start().starts_with(HEADER) {
            return None;
        }
        let said = String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap_or_default());
        let said = match self.api_key.as_str() {
            "" => said.trim().to_owned(),
            api_key => said.trim().replace(api_key, "***"),
        };
        if said.contains("limit") {
            let error = FetchError::new(ErrorKind::RateLimited, said);
            Some(FetchError { retry_after: Some(DAY_IS_USED_UP), ..error })
        } else {
            let fault = format!("the answer has not the columns that were asked for: {said}");
            Some(FetchError::new(ErrorKind::Malformed, fault))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::{
        sources::stub,
        testing::{start, text},
    };

    const QUOTES: &str = "Symbol,Date,Time,Open,High,Low,Close,Volume\r\nAAPL.US,2024-01-05,22:00:10,181.99,182.76,180.17,181.18,62303254\r\nNOPE,N/D,N/D,N/D,N/D,N/D,N/D,N/D\r\n";
    const LIMIT: &str = "Exceeded the daily hits limit";

    fn source(url: String, symbols: &[&str]) -> Poll {
        let config = StooqConfig {
            url,
            symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            interval_secs: 1,
            requests_per_minute: 0,
            requests_per_day: 0,
            ..StooqConfig::default()
        };
        new(&config).unwrap()
    }

    #[tokio::test]
    async fn many_symbols_are_asked_for_at_once() {
        let server = stub::serve(|_, request| async move {
            let expected = "/q/l/?s=%5Espx+aapl.us+nope&f=sd2t2ohlcv&h=&e=csv";
            assert_eq!(request.uri().to_string(), expected);
            ([("content-type", "text/csv")], QUOTES).into_response()
        })
        .await;
        let symbols = ["aapl.us", "^spx", "nope"];
        let mut running = start(source(server.url("/q/l/"), &symbols), None);
        let tick = running.next().await;
        assert_eq!((text(&tick.body), tick.symbol), (QUOTES, None));
        assert_eq!((tick.format, &*tick.content_type), (Format::StooqQuotes, "text/csv"));
        running.session.abort();
    }

    #[tokio::test]
    async fn the_limit_of_the_day_is_not_a_quote() {
        let server = stub::serve(|_, _| async move { LIMIT.into_response() }).await;
        let running = start(source(server.url("/q/l/"), &["aapl.us"]), None);
        assert_eq!(running.error().await, LIMIT);
        running.session.abort();
        let fault = source("https://example.com".into(), &["aapl.us"]).provider.fault(b"Symbol,a");
        assert_eq!(fault, None);
    }
}
