//! Web pages, from a site on this machine to a subscriber.

use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, Uri},
    response::{Html, IntoResponse},
    routing::get,
};
use serde_json::json;

use crate::{
    eventually::eventually,
    live::{first_updates, serve},
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, browser},
    subscriber::Subscriber,
};

/// As long as a browser may take to start, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

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

/// A browser that a process runs, and the folder of its profile.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    id: String,
    profile: String,
}

/// The browser of a process: the child of its child, which guards it.
fn browser_of(process: &Process) -> Option<Running> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid=,args="]).output();
    let listed = String::from_utf8(listed.expect("there is ps").stdout).expect("it is text");
    let rows: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    let child_of = |parent: &str, mark: &str| {
        rows.iter().find(|row| row[1] == parent && row.iter().any(|word| word.starts_with(mark)))
    };
    let guard = child_of(&process.id(), "guard")?;
    let found = child_of(guard[0], "--user-data-dir=")?;
    let profile = found.iter().find_map(|word| word.strip_prefix("--user-data-dir="))?;
    Some(Running { id: found[0].to_owned(), profile: profile.to_owned() })
}

/// Prices that only scripts write; a browser that is killed is replaced, and one whose process is
/// killed goes, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_needs_javascript() {
    const PAGE: &str = "<!doctype html><table id=t></table><script>\
        fetch('/api').then(answer => answer.text()).then(price => {\
        document.getElementById('t').innerHTML = `<tr><td>SAP<td class=price>${price} \u{20ac}`; });</script>";
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let price = async move || format!("1.{:03},50", 200 + count.fetch_add(1, Ordering::SeqCst));
    let site =
        serve(Router::new().route("/", get(async || Html(PAGE))).route("/api", get(price))).await;
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    let sites = json!([{
        "name": "bourse", "url": format!("http://{site}/"), "interval_secs": 1, "delay_ms": 0,
        "allow_private": true, "render": true, "wait_for": "#t .price", "timeout_secs": 60,
        "rows": "#t tr", "symbol": {"select": "td:first-child"}, "price": {"select": ".price"},
        "currency": "EUR", "decimal_separator": ","
    }]);
    installation.set("ingest.sources", "html:bourse");
    installation.set("html", sites);
    installation.set("ingest.browser.program", browser::program().display());
    installation.set("ingest.browser.sandbox", false);
    let registry = Arc::new(Registry::at(&nats.url()).await);
    let mut ingest = installation.role("ingest");
    let _others = ["process", "provide", "gateway"].map(|role| installation.role(role));
    registry.address("provide").await;
    // All symbols: a source that reads pages cannot say beforehand which there are.
    let subscriber = Subscriber::follow(Arc::clone(&registry), &["*"]);
    eventually(PATIENCE, "the first price", async || (subscriber.count() > 0).then_some(())).await;
    assert_eq!(subscriber.received()[0].price, "1200.50");

    let first = browser_of(&ingest).expect("it has rendered a page");
    let killed = Command::new("kill").args(["-s", "KILL", &first.id]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let second = eventually(PATIENCE, "another browser", async || {
        browser_of(&ingest).filter(|second| *second != first)
    })
    .await;
    let before = subscriber.count();
    eventually(PATIENCE, "prices from it", async || (subscriber.count() > before).then_some(()))
        .await;

    ingest.kill().await;
    for gone in [first, second] {
        let folder = std::path::Path::new(&gone.profile);
        eventually(PATIENCE, "the browser is gone", async || (!folder.exists()).then_some(()))
            .await;
    }
}
