//! Twelve Data, <https://twelvedata.com/docs>: the newest quotes (`/quote`) or bars (`/time_series`),
//! many symbols a request.
//!
//! Each symbol of a request takes one credit; a free account has 8 a minute and 800 a day
//! (<https://support.twelvedata.com/en/articles/5615854-credits>). What goes wrong is told by a
//! `code` and a `status` in the answer, often with status 200; in an answer about many symbols each
//! has its own.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, header::AUTHORIZATION};
use schemas::{Format, Symbol};
use serde::Deserialize;

use super::{
    fetch::REFUSED_FOR,
    polling::{Account, Poll, Provider},
};
use crate::{
    config::{self, ConfigError, TwelveDataConfig, TwelveDataEndpoint as Endpoint},
    source::{ErrorKind, FetchError},
};

/// The bars that there are.
const BARS: [&str; 12] =
    ["1min", "5min", "15min", "30min", "45min", "1h", "2h", "4h", "8h", "1day", "1week", "1month"];

/// How many symbols a request asks for at most; the answer stays far below what is published.
const BATCH: u32 = 100;

/// How many bars of each symbol are asked for at most.
const MOST_BARS: u32 = 100;

/// How long to stay away when the credits are used up, by what the message says.
const DAY_IS_USED_UP: Duration = Duration::from_secs(60 * 60);
const MINUTE_IS_USED_UP: Duration = Duration::from_secs(60);

/// Prices of Twelve Data.
struct TwelveData {
    url: Url,
    authorization: String,
    endpoint: Endpoint,
    bars: String,
    bar_count: String,
    batch: usize,
}

pub(super) fn new(config: &TwelveDataConfig) -> Result<Poll, ConfigError> {
    let key = |name: &str| format!("twelvedata.{name}");
    let mut url = config::url(&key("url"), &config.url, &["http", "https"])?;
    if config.api_key.is_empty() {
        let fault = "a key is needed; Twelve Data gives one for free";
        return Err(ConfigError::new(key("api_key"), fault));
    }
    config::header(&key("api_key"), &config.api_key)?;
    if !BARS.contains(&config.bars.as_str()) {
        let fault = format!("{:?} is none of {}", config.bars, BARS.join(", "));
        return Err(ConfigError::new(key("bars"), fault));
    }
    if !(1..=MOST_BARS).contains(&config.bar_count) {
        let fault = format!("must be 1 to {MOST_BARS}, not {}", config.bar_count);
        return Err(ConfigError::new(key("bar_count"), fault));
    }
    let interval = config::interval(&key("interval_secs"), config.interval_secs)?;
    config::append(
        &mut url,
        &[match config.endpoint {
            Endpoint::Quote => "quote",
            Endpoint::TimeSeries => "time_series",
        }],
    );
    // What a request takes must be there at once; and many bars of many symbols are a large answer.
    let quotas = [config.credits_per_minute, config.credits_per_day];
    let allowed = quotas.into_iter().filter(|credits| *credits > 0).min().unwrap_or(BATCH);
    let batch = match config.endpoint {
        Endpoint::Quote => BATCH,
        Endpoint::TimeSeries => (1_000 / config.bar_count).min(BATCH),
    };
    Ok(Poll {
        name: super::source_name("twelvedata"),
        url: url.clone(),
        symbols: config::symbols(&key("symbols"), &config.symbols)?,
        interval,
        account: Account::new(config.credits_per_minute, config.credits_per_day, &config.api_key),
        provider: Box::new(TwelveData {
            url,
            authorization: format!("apikey {}", config.api_key),
            endpoint: config.endpoint,
            bars: config.bars.clone(),
            bar_count: config.bar_count.to_string(),
            batch: usize::try_from(batch.min(allowed)).unwrap_or(1),
        }),
    })
}

impl Provider for TwelveData {
    fn format(&self) -> Format {
        match self.endpoint {
            Endpoint::Quote => Format::TwelveDataQuote,
            Endpoint::TimeSeries => Format::TwelveDataSeries,
        }
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn cost(&self, symbols: usize) -> u32 {
        u32::try_from(symbols).unwrap_or(u32::MAX)
    }

    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder {
        let symbols: Vec<_> = symbols.iter().map(Symbol::as_str).collect();
        let request = client.get(self.url.clone()).query(&[("symbol", symbols.join(","))]);
        let request = match self.endpoint {
            Endpoint::Quote => request,
            Endpoint::TimeSeries => {
                request.query(&[("interval", &self.bars), ("outputsize", &self.bar_count)])
            }
        };
        request.header(AUTHORIZATION, &self.authorization)
    }

    fn fault(&self, body: &[u8]) -> Option<FetchError> {
        let Fault { code, message } = serde_json::from_slice(body).ok()?;
        let (kind, retry_after) = match code {
            401 => (ErrorKind::Unauthorized, Some(REFUSED_FOR)),
            403 => (ErrorKind::NotAllowed, Some(REFUSED_FOR)),
            // Of all symbols that were asked for.
            400 | 404 => (ErrorKind::NotFound, None),
            429 if message.contains("day") => (ErrorKind::RateLimited, Some(DAY_IS_USED_UP)),
            429 => (ErrorKind::RateLimited, Some(MINUTE_IS_USED_UP)),
            _ => (ErrorKind::Provider, None),
        };
        let message = message.replace(self.authorization.trim_start_matches("apikey "), "***");
        let error = FetchError::new(kind, format!("the provider answers {code}: {message}"));
        Some(FetchError { retry_after, ..error })
    }
}

/// What may stand where the prices should be; in an answer about many symbols it does for each.
#[derive(Deserialize)]
struct Fault {
    code: u16,
    message: String,
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

    const QUOTES: &str = r#"{"IBM":{"symbol":"IBM","close":"1.50","timestamp":1},"NOPE":{"code":404,"message":"**symbol** not found: NOPE.","status":"error"}}"#;
    const USED_UP: &str = r#"{"code":429,"message":"You have run out of API credits for the current minute. 9 API credits were used, with the current limit being 8.","status":"error"}"#;

    fn config(url: String, symbols: &[&str]) -> TwelveDataConfig {
        TwelveDataConfig {
            url,
            api_key: "k3y".into(),
            symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            interval_secs: 1,
            credits_per_minute: 0,
            credits_per_day: 0,
            ..TwelveDataConfig::default()
        }
    }

    fn json(body: &'static str) -> Response {
        ([("content-type", "application/json")], body).into_response()
    }

    #[tokio::test]
    async fn many_symbols_are_asked_for_at_once_and_one_that_is_unknown_holds_up_nobody() {
        let server = stub::serve(|_, request| async move {
            assert_eq!(request.uri().path(), "/quote");
            let Query(query) =
                Query::<HashMap<String, String>>::try_from_uri(request.uri()).unwrap();
            assert_eq!(query["symbol"], "EUR/USD,IBM,NOPE");
            assert_eq!(request.headers()["authorization"], "apikey k3y");
            json(QUOTES)
        })
        .await;
        let symbols = ["IBM", "NOPE", "EUR/USD"];
        let mut running = start(new(&config(server.url(""), &symbols)).unwrap(), None);
        let tick = running.next().await;
        assert_eq!((text(&tick.body), tick.symbol), (QUOTES, None));
        assert_eq!(tick.format, Format::TwelveDataQuote);
        assert!(tick.id.starts_with("twelvedata:_:"), "{}", tick.id);
        running.session.abort();
    }

    #[tokio::test]
    async fn bars_are_asked_for_as_documented() {
        let server = stub::serve(|_, request| async move {
            let expected = "/time_series?symbol=IBM&interval=1min&outputsize=3";
            assert_eq!(request.uri().to_string(), expected);
            json(r#"{"meta":{},"values":[],"status":"ok"}"#)
        })
        .await;
        let config =
            TwelveDataConfig { endpoint: Endpoint::TimeSeries, ..config(server.url(""), &["IBM"]) };
        let mut running = start(new(&config).unwrap(), None);
        assert_eq!(running.next().await.format, Format::TwelveDataSeries);
        running.session.abort();
    }

    #[tokio::test]
    async fn an_error_with_status_200_is_one() {
        let unauthorized = r#"{"code":401,"message":"k3y is not a valid apikey","status":"error"}"#;
        for (body, expected) in [
            (USED_UP, "the provider answers 429: You have run out"),
            (unauthorized, "the provider answers 401: *** is not a valid apikey"),
        ] {
            let server =
                stub::serve(
                    move |_, _| async move { (StatusCode::OK, json(body)).into_response() },
                )
                .await;
            let running = start(new(&config(server.url(""), &["IBM"])).unwrap(), None);
            let error = running.error().await;
            assert!(error.starts_with(expected), "{error}");
            running.session.abort();
        }
    }

    #[test]
    fn how_long_to_stay_away_is_in_the_message() {
        let provider = new(&config("https://example.com".into(), &["IBM"])).unwrap().provider;
        let wait = |body: &str| provider.fault(body.as_bytes()).unwrap().retry_after;
        assert_eq!(wait(USED_UP), Some(MINUTE_IS_USED_UP));
        assert_eq!(wait(&USED_UP.replace("minute", "day")), Some(DAY_IS_USED_UP));
        assert_eq!(wait(&USED_UP.replace("429", "401")), Some(REFUSED_FOR));
    }

    #[test]
    fn a_request_never_takes_more_than_the_quota() {
        let batch = |per_minute, per_day| {
            let config = TwelveDataConfig {
                credits_per_minute: per_minute,
                credits_per_day: per_day,
                ..config("https://example.com".into(), &["IBM"])
            };
            new(&config).unwrap().provider.batch()
        };
        assert_eq!([batch(8, 800), batch(8, 5), batch(0, 0), batch(1_000, 0)], [8, 5, 100, 100]);
    }
}
