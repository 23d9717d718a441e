//! Web pages, from a site on this machine to a subscriber.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, Uri},
    response::{Html, IntoResponse},
    routing::get,
};
use serde_json::json;

use crate::live::{first_updates, serve};

const ROBOTS: &str = "User-agent: *\nDisallow: /\n\n\
    User-agent: lizards\nAllow: /kurse\nAllow: /quote/\nDisallow: /\nCrawl-delay: 0.1\n";

/// As a German site shows them, in its own charset.
const TABLE: &[u8] = b"<!doctype html><title>Kurse</title><table>\
    <thead><tr><th>Aktie<th>Kurs<th>St\xfcck<th>Zeit</thead>\
    <tr class=quote><td><a href='/aktie/SAP?ref=liste'>SAP SE</a><td class=kurs>1.234,50 \x80\
    <td class=stueck>1.500<td class=zeit>24.11.2025 17:35:04\
    <tr class=quote><td><a href='/aktie/BMW?ref=liste'>BMW</a><td class=kurs>n/a<td class=stueck>\
    <td class=zeit>24.11.2025 17:35:04\
    <tr class=quote><td><a href='/aktie/M%C3%9CV2?ref=liste'>M\xfcnchener R\xfcck</a>\
    <td class=kurs>520 \x80<td class=stueck><td class=zeit>24.11.2025 17:36:00</table>";

/// A table of many symbols as people write it in German, and a site with a page for each symbol, both
/// behind a robots.txt that lets us in.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_and_single_quotes() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = |asked: &Arc<Mutex<Vec<String>>>, uri: &Uri| {
        asked.lock().expect("no panic holds it").push(uri.path().to_owned());
    };
    let (tables, quotes, robots) = (Arc::clone(&asked), Arc::clone(&asked), Arc::clone(&asked));
    let table = async move |uri: Uri| {
        log(&tables, &uri);
        ([("content-type", "text/html; charset=windows-1252")], TABLE)
    };
    let quote = async move |uri: Uri, Path(symbol): Path<String>| {
        log(&quotes, &uri);
        match symbol.as_str() {
            "BTC/USD" => {
                Html("<h1>Bitcoin</h1><b data-last='68400.5'>68,400.50</b>").into_response()
            }
            "BRK.B" => Html("<h1>Berkshire</h1><b data-last='412.25'>412.25</b>").into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    };
    let robots = async move |uri: Uri| {
        log(&robots, &uri);
        ROBOTS
    };
    let site = serve(
        Router::new()
            .route("/robots.txt", get(robots))
            .route("/kurse", get(table))
            .route("/quote/{symbol}", get(quote)),
    )
    .await;
    let sites = json!([{
        "name": "kurse", "url": format!("http://{site}/kurse"), "interval_secs": 1, "delay_ms": 0,
        "allow_private": true, "rows": "tr.quote", "currency": "EUR", "decimal_separator": ",",
        "symbol": {"select": "a", "attribute": "href", "after": "/aktie/", "before": "?"},
        "price": {"select": ".kurs"}, "size": {"select": ".stueck"},
        "time": {"select": ".zeit"}, "time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "Europe/Berlin",
    }, {
        "name": "quotes", "url": format!("http://{site}/quote/{{symbol}}"), "interval_secs": 1,
        "symbols": ["BTC/USD", "NOBODY", "BRK.B"], "delay_ms": 0, "allow_private": true,
        "price": {"select": "b", "attribute": "data-last"}, "currency": "USD",
    }]);
    let settings =
        [("ingest.sources", "html:kurse,html:quotes".to_owned()), ("html", sites.to_string())];
    let [sap, bitcoin, berkshire] = first_updates(&settings, ["SAP", "BTC/USD", "BRK.B"]).await;

    assert_eq!((sap.price.get(), sap.source.as_str()), ("1234.50", "html:kurse"));
    assert_eq!(sap.size.expect("it has a size").get(), "1500");
    assert_eq!(sap.timestamp.to_string(), "2025-11-24T16:35:04Z");
    assert_eq!((bitcoin.price.get(), bitcoin.source.as_str()), ("68400.5", "html:quotes"));
    assert_eq!(berkshire.price.get(), "412.25");
    let asked = asked.lock().expect("no panic holds it");
    assert_eq!(asked[0], "/robots.txt");
    assert_eq!(asked.iter().filter(|path| *path == "/robots.txt").count(), 1, "{asked:?}");
    assert!(asked.iter().any(|path| path == "/quote/BTC%2FUSD"), "{asked:?}");
}
