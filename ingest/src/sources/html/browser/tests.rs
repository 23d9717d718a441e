//! With a real Chromium, on pages of a stub on this machine.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{
    extract::Request,
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use reqwest::Url;

use super::*;
use crate::{
    sources::stub::{self, Stub},
    testing::text,
};

/// As on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a page is waited for that never gets ready.
const SHORT: Duration = Duration::from_secs(3);

fn renderer() -> Renderer {
    let program = std::env::var("LIZARDS_TEST_CHROMIUM").unwrap_or_default();
    // Containers have no sandbox to give, and these pages are ours.
    Renderer::new(&BrowserConfig { program, sandbox: false }).unwrap()
}

fn wanted(url: &str, wait_for: &str) -> Wanted {
    Wanted {
        url: Url::parse(url).unwrap(),
        user_agent: "lizards/test".into(),
        wait_for: wait_for.into(),
        timeout: PATIENCE,
        trusted: Some("127.0.0.1".into()),
        content_types: vec!["text/html".into()],
    }
}

fn briefly(url: &str, wait_for: &str) -> Wanted {
    Wanted { timeout: SHORT, ..wanted(url, wait_for) }
}

const PRICES: &str = "<!doctype html><meta charset=windows-1252><table id=prices></table><script>
    fetch('/api').then(answer => answer.json()).then(prices => setTimeout(() => {
        for (const [symbol, price] of prices)
            document.getElementById('prices').innerHTML += `<tr><td>${symbol}<td class=price>${price} \\u20ac`;
    }, 100));
</script>";

async fn serve() -> Stub {
    stub::serve(|_, request| async move { answer(&request) }).await
}

fn answer(request: &Request) -> Response {
    let port = request.headers()["host"].to_str().unwrap().rsplit(':').next().unwrap().to_owned();
    match request.uri().path() {
        "/prices" => Html(PRICES).into_response(),
        "/api" => axum::Json([("SAP", "1.234,50"), ("BMW", "87,10")]).into_response(),
        "/never" => Html("<p>Loading…</p>").into_response(),
        "/loop" => Html("<p id=a>1</p><script>for (;;);</script>").into_response(),
        "/dialogs" => Html(
            "<script>alert('a'); confirm('b'); prompt('c'); \
             document.write('<p class=price>1</p>');</script>",
        )
        .into_response(),
        "/download" => {
            ([("content-disposition", "attachment; filename=x.html")], Html("1")).into_response()
        }
        "/picture" => ([("content-type", "image/png")], "no picture").into_response(),
        "/missing" => (StatusCode::NOT_FOUND, Html("<p class=price>1</p>")).into_response(),
        "/busy" => {
            (StatusCode::TOO_MANY_REQUESTS, [("Retry-After", "7")], Html("slow down")).into_response()
        }
        "/agent" => {
            Html(request.headers()["user-agent"].to_str().unwrap().to_owned()).into_response()
        }
        "/large" => Html("<script>document.write('<p>' + 'x'.repeat(600 * 1024))</script>").into_response(),
        "/to-private" => {
            axum::response::Redirect::to(&format!("http://127.0.0.2:{port}/secret")).into_response()
        }
        // What it finds out of where it must not reach is written into the page.
        "/spy" => Html(format!(
            "<p id=found></p><iframe src='http://localhost:{port}/secret'></iframe>\
             <img src='http://127.0.0.3:{port}/secret'><script src='http://[::1]:{port}/secret'></script>\
             <script>const socket = new WebSocket('ws://127.0.0.2:{port}/secret');
             const ended = new Promise(done => {{ socket.onerror = socket.onopen = done; }});
             const asked = ['127.0.0.2', 'localhost', '169.254.169.254'].map(host =>
                fetch(`http://${{host}}:{port}/secret`, {{ mode: 'no-cors' }}).then(() => host, () => 'none'));
             Promise.all([ended, ...asked]).then(([, ...found]) => {{
                document.getElementById('found').className = 'ready';
                document.getElementById('found').textContent = found.join();
             }});</script>"
        ))
        .into_response(),
        // Browsers ask for an icon.
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn fault(renderer: &Renderer, wanted: Wanted) -> FetchError {
    match renderer.render(wanted).await {
        Ok(page) => panic!("it is a page: {}", text(&page.body)),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_scripts_make_of_a_page_is_the_page() {
    let (server, renderer) = (serve().await, renderer());
    let page = renderer.render(wanted(&server.url("/prices"), "#prices .price")).await.unwrap();
    let body = text(&page.body);
    assert!(body.starts_with("<!doctype html><html>"), "{body}");
    assert!(body.contains("<td>SAP</td><td class=\"price\">1.234,50 €</td>"), "{body}");
    assert_eq!(page.content_type(""), "text/html; charset=utf-8");

    let page = renderer.render(wanted(&server.url("/dialogs"), ".price")).await.unwrap();
    assert!(text(&page.body).contains("<p class=\"price\">1</p>"), "dialogs are dismissed");
    let page = renderer.render(wanted(&server.url("/agent"), "")).await.unwrap();
    assert!(text(&page.body).contains("lizards/test"), "{}", text(&page.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_page_is_told() {
    let (server, renderer) = (serve().await, renderer());
    for (path, kind, said) in [
        ("/missing", ErrorKind::NotFound, "the provider answers 404 Not Found"),
        ("/busy", ErrorKind::RateLimited, "the provider answers 429 Too Many Requests"),
        ("/download", ErrorKind::Malformed, "it is a file to download, not a page"),
        ("/picture", ErrorKind::Malformed, "the page is of the type \"image/png\", not text/html"),
        ("/large", ErrorKind::TooLarge, "the page has more than 524288 bytes"),
    ] {
        let error = fault(&renderer, wanted(&server.url(path), "")).await;
        assert_eq!((error.kind, &*error.message), (kind, said), "{path}");
        assert_eq!(error.retry_after.is_some(), path == "/busy");
    }
    let nobody = fault(&renderer, wanted("http://127.0.0.1:1/", "")).await;
    assert_eq!(nobody.kind, ErrorKind::Connection, "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_never_gets_ready_or_never_ends_harms_no_other() {
    let (server, renderer) = (serve().await, renderer());
    // Started before, so that the short time is not its start.
    renderer.render(wanted(&server.url("/agent"), "")).await.unwrap();
    let never = fault(&renderer, briefly(&server.url("/never"), ".price")).await;
    assert_eq!(never.kind, ErrorKind::Timeout);
    assert_eq!(never.message, "the page is not ready within 3 s; it waits for \".price\"");
    let endless = fault(&renderer, briefly(&server.url("/loop"), "#b")).await;
    assert_eq!(endless.kind, ErrorKind::Timeout);
    let page = renderer.render(wanted(&server.url("/prices"), ".price")).await.unwrap();
    assert!(text(&page.body).contains("1.234,50"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_has_crashed_is_replaced() {
    let (server, renderer) = (serve().await, renderer());
    renderer.render(wanted(&server.url("/agent"), "")).await.unwrap();
    let first = renderer.inner.chromium().await.unwrap();
    let url = server.url("/never");
    let (open, _) = tokio::join!(fault(&renderer, wanted(&url, ".price")), async {
        server.requests(2).await;
        let crash = chromiumoxide::cdp::browser_protocol::browser::CrashParams::default();
        // It does not live to answer.
        let _ = first.browser.execute(crash).await;
    });
    assert_eq!((open.kind, &*open.message), (ErrorKind::Connection, "the browser has ended"));
    let page = renderer.render(wanted(&server.url("/prices"), ".price")).await.unwrap();
    assert!(text(&page.body).contains("1.234,50"));
    assert!(!Arc::ptr_eq(&first, &renderer.inner.chromium().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_page_reaches_this_machine_but_its_own_host() {
    let secrets = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&secrets);
    let server = stub::serve(move |_, request| {
        let is_secret = request.uri().path() == "/secret";
        told.fetch_add(usize::from(is_secret), Ordering::SeqCst);
        async move { if is_secret { "secret".into_response() } else { answer(&request) } }
    })
    .await;
    let renderer = renderer();
    let redirected = fault(&renderer, wanted(&server.url("/to-private"), "")).await;
    assert_eq!(redirected.kind, ErrorKind::Forbidden);
    assert!(redirected.message.starts_with("127.0.0.2 is a private address"), "{redirected}");
    let page = renderer.render(wanted(&server.url("/spy"), "#found.ready")).await.unwrap();
    let body = text(&page.body);
    assert!(body.contains(">none,none,none</p>"), "{body}");
    let untrusted = Wanted { trusted: None, ..wanted(&server.url("/secret"), "") };
    let untrusted = fault(&renderer, untrusted).await;
    assert_eq!(untrusted.kind, ErrorKind::Forbidden);
    assert_eq!(secrets.load(Ordering::SeqCst), 0, "nobody was asked");
}

#[tokio::test]
async fn a_program_that_is_none_is_told() {
    let config = BrowserConfig { program: "/no/such/chromium".into(), sandbox: true };
    let error = fault(&Renderer::new(&config).unwrap(), wanted("http://127.0.0.1:1/", "")).await;
    assert!(
        error.message.contains("/no/such/chromium cannot be started: it ended at once"),
        "{error}"
    );
}
