//! Against a stub that answers as documented.

use axum::{
    body::Body,
    extract::Query,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::collections::HashMap;

use tokio::time::Instant;

use super::*;
use crate::{
    sources::stub,
    testing::{start, text},
};

const QUOTE: &str =
    r#"{"Global Quote":{"01. symbol":"IBM","05. price":"184.2100","06. volume":"100"}}"#;
const INFORMATION: &str = r#"{"Information":"We have detected your API key as k3y and our standard API rate limit is 25 requests per day."}"#;

fn config(url: String, symbols: &[&str]) -> AlphaVantageConfig {
    AlphaVantageConfig {
        url,
        api_key: "k3y".into(),
        symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
        interval_secs: 1,
        requests_per_minute: 0,
        requests_per_day: 0,
        ..AlphaVantageConfig::default()
    }
}

fn source(url: String, symbols: &[&str]) -> Poll {
    new(&config(url, symbols)).unwrap()
}

#[tokio::test]
async fn quotes_are_asked_for_as_documented_and_published_as_they_are() {
    let server = stub::serve(|_, request| async move {
        let Query(query) = Query::<HashMap<String, String>>::try_from_uri(request.uri()).unwrap();
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
    for (notice, wait) in [
        (INFORMATION, DAY_IS_USED_UP),
        (r#"{"Note":"Thank you, k3y! Please slow down."}"#, MINUTE_IS_USED_UP),
        (both, MINUTE_IS_USED_UP),
    ] {
        let server = stub::serve(move |_, _| async move { notice.into_response() }).await;
        let running = start(source(server.url("/query"), &["IBM"]), None);
        let error = running.error().await;
        assert!(error.contains("***") && !error.contains("k3y"), "{error}");
        assert!(running.ticks.is_empty(), "a notice is not a quote");
        running.session.abort();
        let provider = source(server.url("/query"), &["IBM"]).provider;
        let fault = provider.fault(notice.as_bytes()).unwrap();
        assert_eq!((fault.kind, fault.retry_after), (ErrorKind::RateLimited, Some(wait)));
    }
}

#[tokio::test]
async fn bars_are_asked_for_as_documented() {
    for (function, expected) in [
        (
            Function::TimeSeriesIntraday,
            "/query?function=TIME_SERIES_INTRADAY&interval=5min&symbol=IBM&apikey=k3y",
        ),
        (Function::TimeSeriesDaily, "/query?function=TIME_SERIES_DAILY&symbol=IBM&apikey=k3y"),
    ] {
        let server = stub::serve(move |_, request| async move {
            assert_eq!(request.uri().to_string(), expected);
            r#"{"Meta Data":{}}"#.into_response()
        })
        .await;
        let config = AlphaVantageConfig { function, ..config(server.url("/query"), &["IBM"]) };
        let mut running = start(new(&config).unwrap(), None);
        assert_eq!(running.next().await.format, Format::AlphaVantageSeries);
        running.session.abort();
    }
}

#[tokio::test]
async fn a_symbol_that_is_not_known_holds_up_nobody() {
    let server = stub::serve(|_, request| async move {
        let error = r#"{"Error Message":"Invalid API call."}"#;
        if request.uri().query().unwrap().contains("symbol=BAD") { error } else { QUOTE }
            .into_response()
    })
    .await;
    let mut running = start(source(server.url("/query"), &["BAD", "IBM"]), None);
    assert_eq!(running.next().await.symbol.unwrap().as_str(), "IBM");
    assert_eq!(running.error().await, "BAD: Invalid API call.");
    running.session.abort();
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
