//! The newest quotes, one symbol a request: <https://finnhub.io/docs/api/quote>.
//!
//! A free account may ask 60 times a minute, and nobody more than 30 times a second; beyond that the
//! answer is 429 (<https://finnhub.io/docs/api/rate-limit>). A key that is not valid is answered with
//! 401, a symbol that the account does not cover with 403, and one that nobody knows with zeros.

use reqwest::{Client, RequestBuilder, Url};
use schemas::{Format, Symbol};

use crate::{
    config::{self, ConfigError, FinnhubConfig},
    source::{ErrorKind, FetchError},
    sources::{
        polling::{Account, Poll, Provider},
        source_name,
    },
};

/// The header that carries the key: one in the address would be logged on the way.
const TOKEN: &str = "X-Finnhub-Token";

/// Quotes of Finnhub.
struct Quotes {
    url: Url,
    api_key: String,
}

pub(super) fn new(config: &FinnhubConfig) -> Result<Poll, ConfigError> {
    let key = |name: &str| format!("finnhub.{name}");
    let mut url = config::url(&key("url"), &config.url, &["http", "https"])?;
    config::append(&mut url, &["quote"]);
    let interval = config::interval(&key("interval_secs"), config.interval_secs)?;
    config::header(&key("api_key"), &config.api_key)?;
    Ok(Poll {
        name: source_name("finnhub"),
        url: url.clone(),
        symbols: config::symbols(&key("symbols"), &config.symbols)?,
        interval,
        account: Account::new(config.requests_per_minute, 0, &config.api_key),
        provider: Box::new(Quotes { url, api_key: config.api_key.clone() }),
    })
}

impl Provider for Quotes {
    fn format(&self) -> Format {
        Format::FinnhubQuote
    }

    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder {
        let symbols = symbols.iter().map(|symbol| ("symbol", symbol.as_str()));
        let request = client.get(self.url.clone()).query(&symbols.collect::<Vec<_>>());
        request.header(TOKEN, &self.api_key)
    }

    fn is_of_symbols(&self, error: &FetchError) -> bool {
        matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotAllowed)
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        http::StatusCode,
        response::{IntoResponse, Response},
    };

    use super::*;
    use crate::{
        config::FinnhubMode,
        sources::stub,
        testing::{start, text},
    };

    /// As documented.
    const QUOTE: &str =
        r#"{"c":261.74,"h":263.31,"l":260.68,"o":261.07,"pc":259.45,"t":1582641000}"#;

    fn source(url: String, symbols: &[&str]) -> Poll {
        let config = FinnhubConfig {
            mode: FinnhubMode::Quotes,
            url,
            api_key: "k3y".into(),
            symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
            interval_secs: 1,
            requests_per_minute: 0,
            ..FinnhubConfig::default()
        };
        new(&config).unwrap()
    }

    fn json(body: &'static str) -> Response {
        ([("content-type", "application/json; charset=utf-8")], body).into_response()
    }

    #[tokio::test]
    async fn quotes_are_asked_for_as_documented() {
        let server = stub::serve(|_, request| async move {
            assert_eq!(request.uri().to_string(), "/api/v1/quote?symbol=BINANCE%3ABTCUSDT");
            assert_eq!(request.headers()["x-finnhub-token"], "k3y");
            json(QUOTE)
        })
        .await;
        let mut running = start(source(server.url("/api/v1"), &["BINANCE:BTCUSDT"]), None);
        let tick = running.next().await;
        assert_eq!((text(&tick.body), tick.format), (QUOTE, Format::FinnhubQuote));
        assert_eq!(tick.symbol.unwrap().as_str(), "BINANCE:BTCUSDT");
        running.session.abort();
    }

    #[tokio::test]
    async fn a_symbol_that_the_account_does_not_cover_holds_up_nobody() {
        let server = stub::serve(|_, request| async move {
            match request.uri().query() {
                Some("symbol=BMW.DE") => {
                    let error = r#"{"error":"You don't have access to this resource."}"#;
                    (StatusCode::FORBIDDEN, error).into_response()
                }
                _ => json(QUOTE),
            }
        })
        .await;
        let mut running = start(source(server.url("/api/v1"), &["BMW.DE", "IBM"]), None);
        assert_eq!(running.next().await.symbol.unwrap().as_str(), "IBM");
        assert_eq!(running.error().await, "BMW.DE: the provider answers 403 Forbidden");
        running.session.abort();
    }
}
