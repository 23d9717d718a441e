//! Where requests go, what they carry, and what happens when nobody answers.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    http::{HeaderMap, Method, Uri},
    routing::{any, post},
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn named(name: &'static str) -> SocketAddr {
    serve(Router::new().fallback(move || async move { name })).await
}

#[tokio::test]
async fn each_path_goes_to_its_service() {
    let gateway = Gateway::uncached().await;
    gateway.knows(INGEST, "i", named("ingest").await, 0);
    gateway.knows(PROVIDE, "p", named("provide").await, 0);
    for path in ["/sources", "/sources/html:site"] {
        assert_eq!(gateway.text(path).await, "ingest", "{path}");
    }
    for path in ["/sources/coinbase", "/sources/coinbase/symbols/BTC-USD"] {
        for method in [Method::PUT, Method::DELETE] {
            let answer = gateway.client.request(method, gateway.url(path)).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "ingest", "{path}");
        }
    }
    let provided = [
        "/quotes?symbols=A,B",
        "/quotes/BRK.B",
        "/ticks/IBM?limit=1",
        "/candles/IBM?interval=1m",
        "/symbols?query=I",
    ];
    for path in provided {
        assert_eq!(gateway.text(path).await, "provide", "{path}");
    }
    let posted = gateway.client.post(gateway.url("/ticks/push:desk")).send().await.unwrap();
    assert_eq!(posted.text().await.unwrap(), "ingest");
    let session = gateway.client.post(gateway.url("/session")).send().await.unwrap();
    assert_eq!(session.text().await.unwrap(), "provide");
    assert_eq!(problem(gateway.get("/session")).await.0, 405);
    assert_eq!(problem(gateway.client.post(gateway.url("/symbols"))).await.0, 405);
    assert_eq!(problem(gateway.get("/quotes/EUR/USD")).await.0, 404);
    assert_eq!(problem(gateway.get("/quote")).await.0, 404);
    assert_eq!(problem(gateway.get("/metrics/x")).await.0, 404);
    assert_eq!(problem(gateway.client.delete(gateway.url("/services"))).await.0, 405);
}

#[tokio::test]
async fn a_path_reaches_the_instance_as_it_was_sent() {
    let gateway = Gateway::uncached().await;
    let echo = Router::new().fallback(|uri: Uri| async move { uri.to_string() });
    gateway.knows(PROVIDE, "p", serve(echo).await, 0);
    for path in ["/quotes/EUR%2FUSD", "/quotes/%5EGSPC?x=%20", "/quotes?symbols=A%2CB&&"] {
        assert_eq!(gateway.text(path).await, path);
    }
}

#[tokio::test]
async fn requests_take_turns_between_instances() {
    let gateway = Gateway::uncached().await;
    gateway.knows(PROVIDE, "a", named("a").await, 0);
    gateway.knows(PROVIDE, "b", named("b").await, 900);
    gateway.knows(INGEST, "i", named("i").await, 0);
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..20 {
        *answers.entry(gateway.text("/symbols").await).or_default() += 1;
        gateway.text("/sources").await;
    }
    assert_eq!(answers, BTreeMap::from([("a".into(), 10), ("b".into(), 10)]));
}

#[tokio::test]
async fn a_session_is_from_the_least_loaded_instance() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "busy", named("busy").await, 12);
    gateway.knows(PROVIDE, "free", named("free").await, 3);
    for _ in 0..5 {
        let session = gateway.client.post(gateway.url("/session")).send().await.unwrap();
        assert_eq!(session.text().await.unwrap(), "free");
    }
}

#[tokio::test]
async fn an_instance_that_refuses_is_passed_over() {
    let gateway = Gateway::uncached().await;
    gateway.knows(PROVIDE, "dead", nobody().await, 0);
    gateway.knows(PROVIDE, "live", named("live").await, 5);
    let answers = join_all((0..20).map(|_| gateway.text("/symbols"))).await;
    assert!(answers.iter().all(|answer| answer == "live"), "{answers:?}");
    let session = gateway.client.post(gateway.url("/session")).send().await.unwrap();
    assert_eq!(session.text().await.unwrap(), "live");
}

#[tokio::test]
async fn nobody_there_is_503_with_retry_after() {
    let gateway = Gateway::unlimited().await;
    let response = gateway.get("/symbols").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, detail) = problem(gateway.get("/symbols")).await;
    assert_eq!((status, detail.contains(PROVIDE)), (503, true), "{detail}");
}

#[tokio::test]
async fn all_refusing_is_502() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "dead", nobody().await, 0);
    assert_eq!(problem(gateway.get("/symbols")).await.0, 502);
    gateway.knows(PROVIDE, "dead too", nobody().await, 0);
    assert_eq!(problem(gateway.get("/symbols")).await.0, 502);
}

#[tokio::test]
async fn a_broken_answer_is_502() {
    let gateway = Gateway::unlimited().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.knows(PROVIDE, "rude", listener.local_addr().unwrap(), 0);
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 64]).await;
        }
    });
    assert_eq!(problem(gateway.get("/symbols")).await.0, 502);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one() {
    let gateway = Gateway::unlimited().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.knows(PROVIDE, "dies", listener.local_addr().unwrap(), 0);
    tokio::spawn(async move {
        // The second is too large for the cache, and has begun when it breaks.
        for length in [100, 1_000_000] {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 1_024]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhalf");
            connection.write_all(head.as_bytes()).await.unwrap();
        }
    });
    assert_eq!(problem(gateway.get("/ticks/IBM")).await.0, 502);
    let begun = gateway.get("/ticks/IBM").send().await.unwrap();
    assert_eq!(begun.status(), 200);
    assert!(begun.bytes().await.is_err());
}

#[tokio::test]
async fn no_answer_in_time_is_504() {
    let config = Config { upstream_timeout_ms: 100, ..Config::default() };
    let gateway = Gateway::start(config).await;
    let never = Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    gateway.knows(PROVIDE, "slow", serve(never).await, 0);
    assert_eq!(problem(gateway.get("/symbols")).await.0, 504);
    assert_eq!(problem(gateway.client.post(gateway.url("/session"))).await.0, 504);
}

#[tokio::test]
async fn an_instance_that_stalls_is_passed_over() {
    let mut config = Config { upstream_timeout_ms: 300, ..Config::default() };
    config.cache.ttl_ms = 0;
    let gateway = Gateway::start(config).await;
    let never = Router::new().fallback(std::future::pending::<()>);
    gateway.knows(PROVIDE, "slow", serve(never).await, 0);
    gateway.knows(PROVIDE, "quick", named("quick").await, 0);
    let mut late = 0;
    for _ in 0..6 {
        late += usize::from(gateway.get("/symbols").send().await.unwrap().status() == 504);
    }
    assert_eq!(late, 1);
}

#[tokio::test]
async fn an_instance_may_have_a_host_name() {
    let gateway = Gateway::uncached().await;
    let port = named("by name").await.port();
    gateway.knows(PROVIDE, "p", SocketAddr::from(([127, 0, 0, 1], port)), 0);
    gateway.registry.0.lock().unwrap()[0].ip_address = "localhost".into();
    assert_eq!(gateway.text("/symbols").await, "by name");
    gateway.registry.0.lock().unwrap()[0].ip_address = "no such host".into();
    assert_eq!(problem(gateway.get("/symbols")).await.0, 502);
}

#[tokio::test]
async fn an_instance_is_told_whom_it_answers() {
    let gateway = Gateway::unlimited().await;
    let echo = any(|headers: HeaderMap, body: Bytes| async move {
        let mut seen: BTreeMap<String, String> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        seen.insert("body".into(), String::from_utf8(body.to_vec()).unwrap());
        ([("connection", "x-hop"), ("x-hop", "1"), ("x-end", "2")], Json(seen))
    });
    let address = serve(Router::new().route("/session", echo)).await;
    gateway.knows(PROVIDE, "p", address, 0);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let response = gateway
        .client
        .post(gateway.url("/session"))
        .header("traceparent", trace)
        .header("authorization", "Bearer t")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .header("x-forwarded-for", "203.0.113.1")
        .body("hello")
        .send()
        .await
        .unwrap();
    assert!(!response.headers().contains_key("x-hop"));
    assert_eq!(response.headers()["x-end"], "2");
    let seen: BTreeMap<String, String> = response.json().await.unwrap();
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen["x-forwarded-host"], gateway.address.to_string());
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_eq!(seen["host"], address.to_string());
    assert_eq!(seen["traceparent"], trace);
    assert_eq!(seen["authorization"], "Bearer t");
    assert_eq!(seen["body"], "hello");
    assert!(!seen.contains_key("x-secret"));
}

#[tokio::test]
async fn a_request_body_is_bounded() {
    let gateway = Gateway::unlimited().await;
    let length = post(|body: Bytes| async move { body.len().to_string() });
    let router = Router::new().route("/session", length);
    gateway.knows(PROVIDE, "p", serve(router).await, 0);
    let send = |bytes: usize| gateway.client.post(gateway.url("/session")).body(vec![b'x'; bytes]);
    assert_eq!(send(1024 * 1024).send().await.unwrap().status(), 200);
    assert_eq!(problem(send(1024 * 1024 + 1)).await.0, 413);
}

#[tokio::test]
async fn too_many_requests_are_refused_with_retry_after() {
    let config = Config { requests_per_second: 1, burst: 3, ..Config::default() };
    let gateway = Gateway::start(config).await;
    gateway.knows(PROVIDE, "p", named("p").await, 0);
    for _ in 0..3 {
        assert_eq!(gateway.get("/symbols").send().await.unwrap().status(), 200);
    }
    let refused = gateway.get("/symbols").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(problem(gateway.get("/")).await.0, 429);
    let upgrade = gateway
        .get("/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(problem(upgrade).await.0, 429);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let config = Config {
        requests_per_second: 1,
        burst: 1,
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..Config::default()
    };
    let gateway = Gateway::start(config).await;
    let from = |client: &'static str| gateway.get("/services").header("x-forwarded-for", client);
    assert_eq!(from("198.51.100.1").send().await.unwrap().status(), 200);
    assert_eq!(from("198.51.100.2").send().await.unwrap().status(), 200);
    assert_eq!(problem(from("203.0.113.9, 198.51.100.2")).await.0, 429);
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let gateway = Gateway::unlimited().await;
    let page = gateway.get("/").send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = page.text().await.unwrap();
    for file in ["/page.js", "/page.css", "/icon.svg"] {
        assert!(html.contains(&format!("\"{file}\"")), "{file}");
        assert_eq!(gateway.get(file).send().await.unwrap().status(), 200);
    }
    assert!(!html.contains("http://") && !html.contains("https://"));
    assert!(html.contains(r#"id="status""#));
}
