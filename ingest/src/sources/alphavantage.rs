//! Alpha Vantage's `GLOBAL_QUOTE`: one request per symbol, within the quota of the account.
//!
//! See "Quote Endpoint" in <https://www.alphavantage.co/documentation/>. Beyond the quota the API
//! answers 200 with a `Note` or an `Information` in place of the quote.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Url};
use schemas::{Format, RawTick, Source as Name, Symbol};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    fetch::{self, Answer, Page, fetch},
    polling::Pages,
    quota::Quota,
};
use crate::{
    config::{self, AlphaVantageConfig, ConfigError},
    outlet::backoff,
    source::{ErrorKind, FetchError, Session, Source},
};

/// The quotes of Alpha Vantage.
pub(super) struct AlphaVantage {
    name: Name,
    url: Url,
    api_key: String,
    symbols: Vec<Symbol>,
    interval_secs: u64,
    /// Outlives a session: the provider goes on counting.
    quota: Mutex<Quota>,
}

impl AlphaVantage {
    pub(super) fn new(config: &AlphaVantageConfig) -> Result<Self, ConfigError> {
        let key = |name: &str| format!("alphavantage.{name}");
        let url = config::url(&key("url"), &config.url, &["http", "https"])?;
        if config.api_key.is_empty() {
            let fault = "a key is needed; Alpha Vantage gives one for free";
            return Err(ConfigError::new(key("api_key"), fault));
        }
        let per_minute =
            config::at_least_one(&key("requests_per_minute"), config.requests_per_minute)?;
        Ok(Self {
            name: super::source_name("alphavantage"),
            url,
            api_key: config.api_key.clone(),
            symbols: config::symbols(&key("symbols"), &config.symbols)?,
            interval_secs: config::at_least_one(&key("interval_secs"), config.interval_secs)?,
            quota: Mutex::new(Quota::per_minute(per_minute)),
        })
    }

    /// The quote of a symbol, as it came.
    async fn quote(&self, client: &Client, symbol: &Symbol) -> Result<Answer, FetchError> {
        let query = [
            ("function", "GLOBAL_QUOTE"),
            ("symbol", symbol.as_str()),
            ("apikey", self.api_key.as_str()),
        ];
        let answer = fetch(client.get(self.url.clone()).query(&query)).await?;
        if let Answer::Page(page) = &answer
            && let Some(notice) = notice(&page.body)
        {
            // Some notices repeat the key.
            let notice = notice.replace(&self.api_key, "***");
            return Err(FetchError::new(ErrorKind::RateLimited, notice));
        }
        Ok(answer)
    }

    fn tick(&self, id: String, symbol: &Symbol, page: Page) -> RawTick {
        RawTick {
            id,
            source: self.name.clone(),
            symbol: Some(symbol.clone()),
            received_at: page.received_at,
            content_type: page.content_type("application/json"),
            format: Format::AlphaVantageQuote,
            columns: None,
            body: page.body,
        }
    }
}

#[async_trait]
impl Source for AlphaVantage {
    fn name(&self) -> &Name {
        &self.name
    }

    fn url(&self) -> String {
        config::shown(&self.url)
    }

    fn symbols(&self) -> Vec<Symbol> {
        self.symbols.clone()
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { resume, mut symbols, mut outlet } = session;
        let client = fetch::client()?;
        let mut pages = Pages::new(&self.name, self.interval_secs, resume.as_deref());
        let mut backoff = backoff();
        let mut quota = self.quota.lock().await;
        loop {
            let round = Instant::now();
            for symbol in symbols.now().iter() {
                quota.take().await;
                outlet.quota(quota.left());
                match self.quote(&client, symbol).await {
                    Ok(Answer::Page(page)) => {
                        backoff.reset();
                        match pages.id(Some(symbol), page.received_at, &page.body) {
                            Some(id) => outlet.send(self.tick(id, symbol, page)).await,
                            None => outlet.unchanged(),
                        }
                    }
                    Ok(Answer::NotModified) => outlet.unchanged(),
                    Err(error) => outlet.back_off(&error, &mut backoff).await,
                }
            }
            let rest = Duration::from_secs(self.interval_secs).saturating_sub(round.elapsed());
            tokio::select! {
                () = sleep(rest) => {}
                () = symbols.changed() => {}
            }
        }
    }
}

/// The notice that stands where the quote should be.
fn notice(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Notice {
        #[serde(rename = "Note")]
        note: Option<String>,
        #[serde(rename = "Information")]
        information: Option<String>,
    }
    let notice = serde_json::from_slice::<Notice>(body).ok()?;
    notice.note.or(notice.information)
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
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

    const QUOTE: &str =
        r#"{"Global Quote":{"01. symbol":"IBM","05. price":"184.2100","06. volume":"100"}}"#;
    const INFORMATION: &str = r#"{"Information":"We have detected your API key as k3y and our standard API rate limit is 25 requests per day."}"#;

    fn source(url: String, symbols: &[&str]) -> AlphaVantage {
        let mut source = AlphaVantage::new(&AlphaVantageConfig {
            url,
            api_key: "k3y".into(),
            symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            interval_secs: 1,
            requests_per_minute: 1_000,
        })
        .unwrap();
        source.interval_secs = 1;
        source
    }

    #[tokio::test]
    async fn quotes_are_asked_for_as_documented_and_published_as_they_are() {
        let server = stub::serve(|_, request| async move {
            let Query(query) =
                Query::<HashMap<String, String>>::try_from_uri(request.uri()).unwrap();
            assert_eq!(request.uri().path(), "/query");
            assert_eq!((&*query["function"], &*query["apikey"]), ("GLOBAL_QUOTE", "k3y"));
            assert!(request.headers()["user-agent"].to_str().unwrap().starts_with("lizards/"));
            ([("content-type", "application/json")], QUOTE.replace("IBM", &query["symbol"]))
                .into_response()
        })
        .await;
        let mut running = start(source(server.url("/query"), &["IBM", "BRK.B"]), None);
        for symbol in ["BRK.B", "IBM"] {
            let tick = running.next().await;
            assert_eq!(tick.symbol, Some(Symbol::new(symbol).unwrap()));
            assert_eq!(text(&tick.body), QUOTE.replace("IBM", symbol));
            assert_eq!(tick.format, Format::AlphaVantageQuote);
            assert_eq!(tick.content_type, "application/json");
            let token = Symbol::new(symbol).unwrap().token().into_owned();
            assert!(tick.id.starts_with(&format!("alphavantage:{token}:")), "{}", tick.id);
        }
        server.requests(4).await;
        assert!(running.ticks.try_recv().is_err(), "the same quote is not published again");
        running.session.abort();
    }

    #[tokio::test]
    async fn a_notice_is_a_rate_limit_and_the_key_is_never_told() {
        let both = r#"{"Note":"Slow down, k3y!","Information":"k3y"}"#;
        for notice in [INFORMATION, r#"{"Note":"Thank you, k3y! Please slow down."}"#, both] {
            let server = stub::serve(move |n, _| async move {
                if n == 0 { notice.into_response() } else { QUOTE.into_response() }
            })
            .await;
            let mut running = start(source(server.url("/query"), &["IBM"]), None);
            let error = running.error().await;
            assert!(error.contains("***") && !error.contains("k3y"), "{error}");
            assert_eq!(text(&running.next().await.body), QUOTE);
            running.session.abort();
        }
    }

    #[tokio::test]
    async fn one_symbol_that_fails_does_not_starve_the_next() {
        let server = stub::serve(|_, request| async move {
            if request.uri().query().unwrap().contains("symbol=BAD") {
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            } else {
                QUOTE.into_response()
            }
        })
        .await;
        let mut running = start(source(server.url("/query"), &["BAD", "IBM"]), None);
        assert_eq!(text(&running.next().await.body), QUOTE);
        assert_eq!(running.error().await, "the provider answers 500 Internal Server Error");
        running.session.abort();
    }

    #[tokio::test]
    async fn retry_after_is_honoured() {
        let server = stub::serve(|n, _| async move {
            match n {
                0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "2")]).into_response(),
                _ => QUOTE.into_response(),
            }
        })
        .await;
        let begin = Instant::now();
        let mut running = start(source(server.url("/query"), &["IBM"]), None);
        running.next().await;
        assert!(begin.elapsed() >= Duration::from_secs(2));
        assert_eq!(running.error().await, "the provider answers 429 Too Many Requests");
        running.session.abort();
    }

    #[tokio::test]
    async fn no_fault_of_the_line_tells_the_key() {
        let truncated = || {
            Response::builder().header("content-length", "100").body(Body::from_stream(
                futures_util::stream::iter([Ok(QUOTE), Err(std::io::Error::other("cut"))]),
            ))
        };
        let server = stub::serve(move |n, _| async move {
            match n {
                0 => truncated().unwrap(),
                1 => vec![b'x'; 600 * 1024].into_response(),
                _ => QUOTE.into_response(),
            }
        })
        .await;
        let mut running = start(source(server.url("/query"), &["IBM"]), None);
        let first = running.error().await;
        assert!(!first.contains("k3y"), "{first}");
        assert_eq!(text(&running.next().await.body), QUOTE);
        let second = running.error().await;
        assert_eq!(second, "the answer has more than 524288 bytes");
        running.session.abort();

        let nobody = start(source("http://127.0.0.1:1/query".into(), &["IBM"]), None);
        let error = nobody.error().await;
        assert!(error.contains("onnect") && !error.contains("k3y"), "{error}");
        nobody.session.abort();
    }
}
