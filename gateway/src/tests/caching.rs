//! Many who ask the same cost one question.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{Router, http::StatusCode};
use futures_util::future::join_all;

use super::*;

/// An instance that counts its requests, takes its time, and answers `status` and `bytes` bytes.
async fn counting(status: StatusCode, bytes: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let router = Router::new().fallback(move || async move {
        counter.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        (status, [("content-type", "application/json")], "x".repeat(bytes))
    });
    (serve(router).await, asked)
}

async fn gateway(ttl_ms: u64) -> Gateway {
    let mut config = Config { requests_per_second: 0, ..Config::default() };
    config.cache.ttl_ms = ttl_ms;
    config.cache.max_body_bytes = 1_000;
    Gateway::start(config).await
}

async fn x_cache(request: RequestBuilder) -> Option<String> {
    let response = request.send().await.unwrap();
    response.headers().get("x-cache").map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_hundred_at_once_cost_one_request() {
    let gateway = gateway(60_000).await;
    let (address, asked) = counting(StatusCode::OK, 10).await;
    gateway.knows(PROVIDE, "p", address, 0);
    let answers = join_all((0..100).map(|_| gateway.text("/quotes/IBM"))).await;
    assert!(answers.iter().all(|answer| answer == "xxxxxxxxxx"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let response = gateway.get("/quotes/IBM").send().await.unwrap();
    assert_eq!(response.headers()["x-cache"], "hit");
    assert_eq!(response.headers()["age"], "0");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(x_cache(gateway.get("/quotes/IBM?x=1")).await.unwrap(), "miss");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_grows_old() {
    let gateway = gateway(300).await;
    let (address, asked) = counting(StatusCode::OK, 10).await;
    gateway.knows(INGEST, "i", address, 0);
    assert_eq!(x_cache(gateway.get("/sources")).await.unwrap(), "miss");
    assert_eq!(x_cache(gateway.get("/sources")).await.unwrap(), "hit");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(x_cache(gateway.get("/sources")).await.unwrap(), "miss");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_error_is_shared_by_those_who_wait_and_not_kept() {
    let gateway = gateway(60_000).await;
    let (address, asked) = counting(StatusCode::NOT_FOUND, 10).await;
    gateway.knows(PROVIDE, "p", address, 0);
    let all = join_all((0..50).map(|_| gateway.get("/quotes/NO").send())).await;
    assert!(all.into_iter().all(|response| response.unwrap().status() == 404));
    let shared = asked.load(Ordering::SeqCst);
    assert!(shared < 50, "{shared}");
    assert_eq!(gateway.get("/quotes/NO").send().await.unwrap().status(), 404);
    assert_eq!(asked.load(Ordering::SeqCst), shared + 1);
}

#[tokio::test]
async fn a_personal_request_is_not_shared() {
    let gateway = gateway(60_000).await;
    let (address, asked) = counting(StatusCode::OK, 10).await;
    gateway.knows(PROVIDE, "p", address, 0);
    for _ in 0..2 {
        let request = gateway.get("/quotes/IBM").header("authorization", "Bearer t");
        assert_eq!(x_cache(request).await, None);
        assert_eq!(x_cache(gateway.client.post(gateway.url("/session"))).await, None);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_large_answer_passes_whole_and_is_not_kept() {
    let gateway = gateway(60_000).await;
    let (address, asked) = counting(StatusCode::OK, 100_000).await;
    gateway.knows(PROVIDE, "p", address, 0);
    for _ in 0..2 {
        assert_eq!(gateway.text("/ticks/IBM").await.len(), 100_000);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
