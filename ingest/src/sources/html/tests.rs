use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use futures_util::{StreamExt, stream};

use super::*;
use crate::{
    sources::stub::{self, Stub},
    testing::{start, text},
};

/// Serves a robots.txt, and every other page by `answer`, which is given how many there were before.
async fn serve<F>(
    robots: &'static str,
    answer: impl Fn(usize, Request) -> F + Clone + Send + Sync + 'static,
) -> Stub
where
    F: Future<Output = Response> + Send + 'static,
{
    let pages = Arc::new(AtomicUsize::new(0));
    stub::serve(move |_, request| {
        let (answer, pages) = (answer.clone(), Arc::clone(&pages));
        async move {
            match request.uri().path() {
                "/robots.txt" => robots.into_response(),
                _ => answer(pages.fetch_add(1, Ordering::SeqCst), request).await,
            }
        }
    })
    .await
}

fn config(url: String) -> HtmlSite {
    HtmlSite {
        name: "shop".into(),
        url,
        interval_secs: 1,
        delay_ms: 0,
        allow_private: true,
        ..HtmlSite::default()
    }
}

fn site(url: String) -> Site {
    checked(&config(url)).unwrap()
}

fn checked(site: &HtmlSite) -> Result<Site, ConfigError> {
    Site::new(site, &BrowserConfig::default())
}

fn page(etag: &'static str, body: &'static str) -> Response {
    ([("content-type", "text/html; charset=utf-8"), ("etag", etag)], body).into_response()
}

#[tokio::test]
async fn a_page_is_published_when_it_has_changed() {
    let server = serve("", |n, request| async move {
        let condition = request.headers().get("if-none-match");
        let condition = condition.map(|value| value.to_str().unwrap().to_owned());
        match n {
            0 => {
                assert_eq!(condition, None);
                page("\"a\"", "A")
            }
            1 => {
                assert_eq!(condition.as_deref(), Some("\"a\""));
                StatusCode::NOT_MODIFIED.into_response()
            }
            2 => page("\"a2\"", "A"),
            3 => page("\"b\"", "B"),
            _ => page("\"a\"", "A"),
        }
    })
    .await;
    let mut running = start(site(server.url("/")), None);
    let mut ids = Vec::new();
    for body in ["A", "B", "A"] {
        let tick = running.next().await;
        assert_eq!(text(&tick.body), body);
        assert_eq!((tick.symbol, tick.format), (None, Format::Html));
        assert_eq!(tick.content_type, "text/html; charset=utf-8");
        ids.push(tick.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    running.session.abort();
}

#[tokio::test]
async fn after_a_restart_the_same_page_is_not_published_again() {
    let server =
        serve(
            "",
            |n, _| async move { if n < 2 { page("\"a\"", "A") } else { page("\"b\"", "B") } },
        )
        .await;
    let mut first = start(site(server.url("/")), None);
    let id = first.next().await.id;
    first.session.abort();
    let mut second = start(site(server.url("/")), Some(&id));
    assert_eq!(text(&second.next().await.body), "B");
    second.session.abort();
}

#[tokio::test]
async fn each_symbol_has_its_page_and_symbols_come_and_go() {
    let server = serve("", |_, request| async move {
        Html(request.uri().path_and_query().unwrap().to_string()).into_response()
    })
    .await;
    let symbol = |name: &str| Symbol::new(name).unwrap();
    let url = server.url("/quote/{symbol}?full=1");
    let symbols = vec!["BRK.B".to_owned(), "BTC/USD".to_owned()];
    let site = checked(&HtmlSite { symbols, ..config(url) }).unwrap();
    assert_eq!(site.url(), server.url("/quote/{symbol}?***"));

    let mut running = start(site, None);
    for (name, path) in [("BRK.B", "BRK.B"), ("BTC/USD", "BTC%2FUSD")] {
        let tick = running.next().await;
        assert_eq!(text(&tick.body), format!("/quote/{path}?full=1"));
        assert!(tick.id.starts_with(&format!("html:shop:{}:", symbol(name).token())));
        assert_eq!(tick.symbol, Some(symbol(name)));
    }
    running.follow(&["SAP"]);
    assert_eq!(running.next().await.symbol, Some(symbol("SAP")));
    running.session.abort();
}

#[tokio::test]
async fn a_robots_txt_is_obeyed() {
    const ROBOTS: &str = "User-agent: *\nDisallow: /\n\nUser-agent: Lizards\nDisallow: /private/";
    let asked = Arc::new(Mutex::new(Vec::new()));
    let paths = Arc::clone(&asked);
    let server = serve(ROBOTS, move |_, request| {
        paths.lock().unwrap().push(request.uri().path().to_owned());
        async move {
            let agent = request.headers()[header::USER_AGENT].to_str().unwrap();
            let version = env!("CARGO_PKG_VERSION");
            assert_eq!(agent, format!("lizards/{version} (+mailto:me@example.com)"));
            Html("A").into_response()
        }
    })
    .await;
    let with_contact = |path: &str| {
        let contact = "mailto:me@example.com".to_owned();
        checked(&HtmlSite { contact, ..config(server.url(path)) }).unwrap()
    };
    let forbidden = start(with_contact("/private/"), None);
    let origin = server.url("");
    let expected = format!("the robots.txt of {origin} forbids this page");
    assert_eq!(forbidden.error().await, expected);
    let mut allowed = start(with_contact("/public/"), None);
    allowed.next().await;
    allowed.session.abort();
    forbidden.session.abort();
    assert!(asked.lock().unwrap().iter().all(|path| path == "/public/"));
}

#[tokio::test]
async fn without_a_robots_txt_all_is_allowed_and_with_a_broken_host_nothing() {
    let pages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pages);
    let server = stub::serve(move |_, request| {
        let is_robots = request.uri().path() == "/robots.txt";
        count.fetch_add(usize::from(!is_robots), Ordering::SeqCst);
        async move { StatusCode::SERVICE_UNAVAILABLE.into_response() }
    })
    .await;
    let broken = start(site(server.url("/")), None);
    let error = broken.error().await;
    assert!(
        error.ends_with("/robots.txt: the provider answers 503 Service Unavailable")
            || error.contains("robots.txt of"),
        "{error}"
    );
    assert_eq!(pages.load(Ordering::SeqCst), 0);
    broken.session.abort();

    let server = stub::serve(|_, request| async move {
        match request.uri().path() {
            "/robots.txt" => StatusCode::NOT_FOUND.into_response(),
            _ => Html("A").into_response(),
        }
    })
    .await;
    let mut missing = start(site(server.url("/")), None);
    assert_eq!(text(&missing.next().await.body), "A");
    missing.session.abort();
}

#[tokio::test]
async fn two_sites_of_a_host_never_ask_at_once() {
    let open = Arc::new(AtomicUsize::new(0));
    let server = stub::serve(move |n, _| {
        let open = Arc::clone(&open);
        async move {
            assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            tokio::time::sleep(Duration::from_millis(50)).await;
            open.fetch_sub(1, Ordering::SeqCst);
            Html(n.to_string()).into_response()
        }
    })
    .await;
    let mut sites = ["/a", "/b", "/c"].map(|path| start(site(server.url(path)), None));
    for _ in 0..2 {
        for site in &mut sites {
            site.next().await;
        }
    }
    for site in sites {
        site.session.abort();
    }
}

#[tokio::test]
async fn redirects_are_followed_but_not_to_where_only_we_can_reach() {
    let server = serve("User-agent: *\nDisallow: /closed", |_, request| async move {
        let port = request.headers()[header::HOST].to_str().unwrap().rsplit(':').next().unwrap();
        match request.uri().path() {
            "/old" => Redirect::permanent("new").into_response(),
            "/new" => Html("A").into_response(),
            "/loop" => Redirect::to("/loop").into_response(),
            "/to-closed" => Redirect::to("/closed").into_response(),
            "/file" => Redirect::to("file:///etc/passwd").into_response(),
            "/nowhere" => StatusCode::FOUND.into_response(),
            "/address" => Redirect::to(&format!("http://127.0.0.2:{port}/")).into_response(),
            "/name" => Redirect::to(&format!("http://localhost:{port}/")).into_response(),
            _ => Redirect::to("http://169.254.169.254/latest/meta-data/").into_response(),
        }
    })
    .await;
    let mut moved = start(site(server.url("/old")), None);
    assert_eq!(text(&moved.next().await.body), "A");
    moved.session.abort();
    for (path, fault) in [
        ("/loop", "the page redirects more than 5 times"),
        ("/to-closed", "forbids this page"),
        ("/file", "the page redirects to no web address"),
        ("/nowhere", "the page redirects to no web address"),
        ("/address", "127.0.0.2 is a private address"),
        ("/name", "localhost is a private address"),
        ("/metadata", "169.254.169.254 is a private address"),
    ] {
        let running = start(site(server.url(path)), None);
        let error = running.error().await;
        assert!(error.contains(fault), "{path}: {error}");
        running.session.abort();
    }
}

#[tokio::test]
async fn a_private_site_is_read_only_when_it_is_meant() {
    let server = serve("", |_, _| async { Html("A").into_response() }).await;
    let local = server.url("/").replace("127.0.0.1", "localhost");
    let refused = HtmlSite { allow_private: false, ..config(local.clone()) };
    let refused = start(checked(&refused).unwrap(), None);
    let error = refused.error().await;
    assert!(error.contains("localhost is a private address"), "{error}");
    refused.session.abort();
    let mut allowed = start(site(local), None);
    allowed.next().await;
    allowed.session.abort();
}

/// Compressed, and then cut.
fn truncated_gzip() -> Response {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[b'x'; 10_000]).unwrap();
    let mut bytes = gzip.finish().unwrap();
    bytes.truncate(bytes.len() / 2);
    ([("content-type", "text/html"), ("content-encoding", "gzip")], bytes).into_response()
}

fn endless() -> Response {
    let body = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 8_192]));
    ([("content-type", "text/html")], Body::from_stream(body)).into_response()
}

/// A byte now and then, for ever.
fn trickle() -> Response {
    let body = stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok::<_, std::io::Error>("x")
    });
    ([("content-type", "text/html")], Body::from_stream(body)).into_response()
}

#[tokio::test]
async fn what_is_no_page_is_told_and_asked_for_again() {
    for (answer, fault) in [
        (
            (|| (StatusCode::UNAUTHORIZED, [("retry-after", "1")]).into_response())
                as fn() -> Response,
            "401 Unauthorized",
        ),
        (|| (StatusCode::FORBIDDEN, [("retry-after", "1")]).into_response(), "403 Forbidden"),
        (|| StatusCode::NOT_FOUND.into_response(), "404 Not Found"),
        (
            || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
            "429 Too Many",
        ),
        (|| StatusCode::BAD_GATEWAY.into_response(), "502 Bad Gateway"),
        (|| "{}".into_response(), "the page is of the type \"text/plain\", not text/html or"),
        (truncated_gzip, "decod"),
        (endless, "the answer has more than 524288 bytes"),
        (trickle, "timed out"),
    ] {
        let server =
            serve(
                "",
                move |n, _| async move { if n == 0 { answer() } else { page("\"a\"", "A") } },
            )
            .await;
        let mut running = start(site(server.url("/")), None);
        let tick = tokio::time::timeout(Duration::from_secs(60), running.ticks.recv()).await;
        assert_eq!(text(&tick.unwrap().unwrap().body), "A");
        let error = running.error().await;
        assert!(error.contains(fault), "{fault}: {error}");
        running.session.abort();
    }
}

#[tokio::test]
async fn a_host_that_does_not_speak_tls_is_told() {
    let server = serve("", |_, _| async { Html("A").into_response() }).await;
    let running = start(site(server.url("/").replace("http:", "https:")), None);
    let error = running.error().await;
    assert!(error.contains("robots.txt of https://127.0.0.1"), "{error}");
    assert!(error.contains("onnect"), "{error}");
    running.session.abort();
}

#[tokio::test]
async fn a_page_is_kept_byte_for_byte_whatever_its_charset() {
    const BODY: &[u8] = b"<p>Preis: 5 \x80 \xff\0";
    let content = "text/html; charset=windows-1252";
    let server =
        serve("", move |_, _| async move { ([("content-type", content)], BODY).into_response() })
            .await;
    let mut running = start(site(server.url("/")), None);
    let tick = running.next().await;
    assert_eq!((&tick.body[..], tick.content_type.as_str()), (BODY, content));
    running.session.abort();
}

#[test]
fn a_site_that_cannot_be_fetched_says_why() {
    let fault = |site: HtmlSite| checked(&site).err().unwrap().to_string();
    let base = || config("https://example.com/".into());
    for (site, expected) in [
        (
            config("ftp://example.com".into()),
            "ingest.sources: html:shop: url: it begins with ftp:, not with http:// or https://",
        ),
        (
            HtmlSite { allow_private: false, ..config("http://10.0.0.1/".into()) },
            "ingest.sources: html:shop: url: its host is a private address; say allow_private = true if you mean it",
        ),
        (
            HtmlSite { timeout_secs: 0, ..base() },
            "ingest.sources: html:shop: timeout_secs: must be at least 1",
        ),
        (
            HtmlSite { interval_secs: 0, ..base() },
            "ingest.sources: html:shop: interval_secs: must be at least 1",
        ),
        (
            HtmlSite { symbols: vec!["A".into()], ..base() },
            "ingest.sources: html:shop: symbols: url has no {symbol}, so its page is the same for all of them",
        ),
        (
            config("https://example.com/{symbol}".into()),
            "ingest.sources: html:shop: symbols: at least one symbol is needed",
        ),
        (
            HtmlSite { contact: "me\nX-Evil: 1".into(), ..base() },
            "ingest.sources: html:shop: contact: it is no address of a page or of mail: visible ASCII without parentheses",
        ),
    ] {
        assert_eq!(fault(site), expected);
    }
}

#[cfg(not(feature = "browser"))]
#[test]
fn a_build_without_a_browser_says_so() {
    let site = HtmlSite { render: true, ..config("https://example.com/".into()) };
    let fault = checked(&site).err().unwrap().to_string();
    assert!(fault.starts_with("ingest.sources: html:shop: render: this program was built without"));
}
