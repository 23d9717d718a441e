//! The newest bars of Yahoo Finance's charts, one symbol a request: `/v8/finance/chart/{symbol}`.
//!
//! Yahoo documents neither the interface nor its quota; <https://github.com/ranaroussi/yfinance> is
//! the description that is kept up to date. It answers 429 to who asks too often, and 404 with an
//! `error` in the `chart` for a symbol that it does not know. Only the last bars are asked for, so
//! that a page tells little that the one before has told.

use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Url};
use schemas::{Format, Symbol};
use serde::Deserialize;

use super::polling::{Account, Poll, Provider};
use crate::{
    config::{self, ConfigError, YahooConfig},
    source::{ErrorKind, FetchError},
};

/// The bars that there are, with their lengths in seconds, months as their longest.
const BARS: [(&str, i64); 13] = [
    ("1m", 60),
    ("2m", 2 * 60),
    ("5m", 5 * 60),
    ("15m", 15 * 60),
    ("30m", 30 * 60),
    ("60m", 60 * 60),
    ("90m", 90 * 60),
    ("1h", 60 * 60),
    ("1d", 24 * 60 * 60),
    ("5d", 5 * 24 * 60 * 60),
    ("1wk", 7 * 24 * 60 * 60),
    ("1mo", 31 * 24 * 60 * 60),
    ("3mo", 92 * 24 * 60 * 60),
];

/// Charts of Yahoo Finance.
struct Yahoo {
    url: Url,
    bars: &'static str,
    /// How far back bars are asked for, in seconds.
    look_back_secs: i64,
}

pub(super) fn new(config: &YahooConfig) -> Result<Poll, ConfigError> {
    let key = |name: &str| format!("yahoo.{name}");
    let url = config::url(&key("url"), &config.url, &["http", "https"])?;
    let interval = config::interval(&key("interval_secs"), config.interval_secs)?;
    let Some((bars, length)) = BARS.into_iter().find(|(name, _)| *name == config.bars) else {
        let known = BARS.map(|(name, _)| name).join(", ");
        return Err(ConfigError::new(key("bars"), format!("{:?} is none of {known}", config.bars)));
    };
    // The bar that runs, the one before, which may be restated, and what an answer late by an
    // interval would leave out.
    let between = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).saturating_mul(2);
    Ok(Poll {
        name: super::source_name("yahoo"),
        url: url.clone(),
        symbols: config::symbols(&key("symbols"), &config.symbols)?,
        interval,
        account: Account::new(config.requests_per_minute, config.requests_per_day, ""),
        provider: Box::new(Yahoo { url, bars, look_back_secs: between.saturating_add(2 * length) }),
    })
}

impl Provider for Yahoo {
    fn format(&self) -> Format {
        Format::YahooChart
    }

    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder {
        let mut url = self.url.clone();
        let symbols: Vec<_> = symbols.iter().map(Symbol::as_str).collect();
        config::append(&mut url, &symbols);
        // Whole minutes, so that what is the same is asked for in the same words.
        let now = Timestamp::now().as_second().div_euclid(60) * 60;
        let from = now.saturating_sub(self.look_back_secs).max(0).to_string();
        let to = (now + 60).to_string();
        client.get(url).query(&[
            ("interval", self.bars),
            ("period1", &from),
            ("period2", &to),
            ("includePrePost", "true"),
        ])
    }

    fn fault(&self, body: &[u8]) -> Option<FetchError> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let error = answer.chart?.error?;
        let kind = match error.code.as_str() {
            "Not Found" => ErrorKind::NotFound,
            _ => ErrorKind::Provider,
        };
        Some(FetchError::new(kind, format!("{}: {}", error.code, error.description)))
    }
}

/// What may stand where the bars should be.
#[derive(Deserialize)]
struct Answer {
    chart: Option<Chart>,
}

#[derive(Deserialize)]
struct Chart {
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Error {
    code: String,
    #[serde(default)]
    description: String,
}

#[cfg(test)]
mod tests {
    use axum::{
        extract::Query,
        http::StatusCode,
        response::{IntoResponse, Response},
    };
    use std::collections::HashMap;

    use super::*;
    use crate::{
        sources::stub,
        testing::{start, text},
    };

    const CHART: &str = r#"{"chart":{"result":[{"meta":{"symbol":"IBM"},"timestamp":[1],"indicators":{"quote":[{"close":[1.5]}]}}],"error":null}}"#;
    const UNKNOWN: &str = r#"{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}"#;

    fn source(url: String, symbols: &[&str]) -> Poll {
        let config = YahooConfig {
            url,
            symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            interval_secs: 1,
            requests_per_minute: 0,
            ..YahooConfig::default()
        };
        new(&config).unwrap()
    }

    fn json(body: &'static str) -> Response {
        ([("content-type", "application/json;charset=utf-8")], body).into_response()
    }

    #[tokio::test]
    async fn the_last_bars_of_a_symbol_are_asked_for() {
        let server = stub::serve(|_, request| async move {
            assert_eq!(request.uri().path(), "/v8/finance/chart/^GSPC");
            let Query(query) =
                Query::<HashMap<String, String>>::try_from_uri(request.uri()).unwrap();
            let time = |name: &str| query[name].parse::<i64>().unwrap();
            assert_eq!(query["interval"], "1m");
            assert!((120..=240).contains(&(time("period2") - time("period1"))), "{query:?}");
            json(CHART)
        })
        .await;
        let mut running = start(source(server.url("/v8/finance/chart"), &["^GSPC"]), None);
        let tick = running.next().await;
        assert_eq!((text(&tick.body), tick.format), (CHART, Format::YahooChart));
        assert_eq!(tick.symbol.unwrap().as_str(), "^GSPC");
        running.session.abort();
    }

    #[tokio::test]
    async fn an_unknown_symbol_holds_up_nobody_with_whatever_status_it_is_told() {
        for status in [StatusCode::NOT_FOUND, StatusCode::OK] {
            let server = stub::serve(move |_, request| async move {
                match request.uri().path() {
                    "/NOPE" => (status, json(UNKNOWN)).into_response(),
                    _ => json(CHART),
                }
            })
            .await;
            let mut running = start(source(server.url(""), &["NOPE", "ZZZ"]), None);
            assert_eq!(running.next().await.symbol.unwrap().as_str(), "ZZZ");
            let error = running.error().await;
            assert!(error.starts_with("NOPE: ") && error.contains("Not Found"), "{error}");
            running.session.abort();
        }
    }

    #[test]
    fn bars_that_there_are_not_are_refused() {
        let config = YahooConfig { bars: "7m".into(), ..YahooConfig::default() };
        let fault = new(&config).err().unwrap().to_string();
        assert!(fault.starts_with("ingest.yahoo.bars: \"7m\" is none of 1m, 2m"), "{fault}");
    }
}
