//! What every polled provider can do wrong, done by a stub.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemas::http::{QuotaLeft, SourceState};
use tokio::{sync::Semaphore, time::sleep};

use super::*;
use crate::{
    sources::{source_name, stub},
    testing::{FakeBroker, Running, start, start_with},
};

/// A provider of the plainest kind.
struct Plain {
    url: Url,
    batch: usize,
}

impl Provider for Plain {
    fn format(&self) -> Format {
        Format::Ndjson
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder {
        let symbols: Vec<_> = symbols.iter().map(Symbol::as_str).collect();
        client.get(self.url.clone()).query(&[("symbols", symbols.join(","))])
    }
}

fn poll(url: String, symbols: &[&str], batch: usize, account: Account) -> Poll {
    let url = Url::parse(&url).unwrap();
    Poll {
        name: source_name("yahoo"),
        url: url.clone(),
        symbols: symbols.iter().map(|symbol| Symbol::new(symbol).unwrap()).collect(),
        interval: Duration::from_secs(1),
        account,
        provider: Box::new(Plain { url, batch }),
    }
}

fn each(url: String, symbols: &[&str]) -> Poll {
    poll(url, symbols, 1, Account::new(0, 0, ""))
}

/// What was asked for, `A` of `?symbols=A`.
fn asked(request: &Request) -> String {
    request.uri().query().unwrap().trim_start_matches("symbols=").replace("%2C", ",")
}

fn json(body: impl Into<String>) -> Response {
    ([("content-type", "application/json")], body.into()).into_response()
}

/// Waits until the source is in that state.
async fn state(running: &Running, state: SourceState) {
    for _ in 0..1_000 {
        if running.status.snapshot().state == state {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is {:?}", running.status.snapshot().state);
}

#[tokio::test]
async fn what_has_not_changed_is_asked_for_on_condition_and_published_once() {
    let server = stub::serve(|n, request| async move {
        let condition = request.headers().get("if-none-match").map(|tag| tag.to_str().unwrap());
        match n {
            0 => {
                assert_eq!(condition, None);
                ([("etag", "\"1\"")], json("{}")).into_response()
            }
            1 => {
                assert_eq!(condition, Some("\"1\""));
                StatusCode::NOT_MODIFIED.into_response()
            }
            2 => json("{}"),
            _ => json("[]"),
        }
    })
    .await;
    let mut running = start(each(server.url("/"), &["A"]), None);
    assert_eq!(running.next().await.body, "{}");
    assert_eq!(running.next().await.body, "[]");
    server.requests(4).await;
    running.session.abort();
}

#[tokio::test]
async fn a_symbol_that_fails_or_is_slow_holds_up_nobody() {
    let server = stub::serve(|_, request| async move {
        match asked(&request).as_str() {
            "BAD" => StatusCode::NOT_FOUND.into_response(),
            "SLOW" => std::future::pending().await,
            symbol => json(format!("{{\"{symbol}\":1}}")),
        }
    })
    .await;
    let mut running = start(each(server.url("/"), &["A", "BAD", "SLOW", "Z"]), None);
    let mut symbols: Vec<_> = Vec::new();
    for _ in 0..2 {
        symbols.push(running.next().await.symbol.unwrap().to_string());
    }
    assert_eq!(symbols, ["A", "Z"]);
    assert_eq!(running.error().await, "BAD: the provider answers 404 Not Found");
    state(&running, SourceState::Running).await;
    running.session.abort();
}

#[tokio::test]
async fn slow_answers_are_waited_for_together_up_to_a_bound() {
    let (under_way, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counts, gate) = (Arc::clone(&under_way), Arc::clone(&closed));
    let server = stub::serve(move |_, request| {
        let (under_way, gate) = (Arc::clone(&counts), Arc::clone(&gate));
        async move {
            under_way.fetch_add(1, Ordering::SeqCst);
            // Never had; it is an error when the gate goes.
            let _ = gate.acquire().await;
            json(format!("[\"{}\"]", asked(&request)))
        }
    })
    .await;
    let names: Vec<_> = (0..IN_FLIGHT + 6).map(|n| format!("S{n}")).collect();
    let symbols: Vec<_> = names.iter().map(String::as_str).collect();
    let mut running = start(each(server.url("/"), &symbols), None);
    while under_way.load(Ordering::SeqCst) < IN_FLIGHT {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(under_way.load(Ordering::SeqCst), IN_FLIGHT, "the others are due, and wait");
    closed.close();
    let mut seen = BTreeSet::new();
    while seen.len() < symbols.len() {
        seen.insert(running.next().await.symbol.unwrap().to_string());
    }
    running.session.abort();
}

#[tokio::test]
async fn batches_are_asked_for_together_and_published_as_one() {
    let server =
        stub::serve(|_, request| async move { json(format!("[\"{}\"]", asked(&request))) });
    let server = server.await;
    let poll = poll(server.url("/"), &["A", "B", "C"], 2, Account::new(0, 0, ""));
    let mut running = start(poll, None);
    for (body, symbol) in [("[\"A,B\"]", None), ("[\"C\"]", Symbol::new("C").ok())] {
        let tick = running.next().await;
        assert_eq!((tick.body, tick.symbol), (body.into(), symbol));
    }
    running.session.abort();
}

/// Faults that are the provider's are waited out by all its symbols, and the waits grow.
#[tokio::test]
async fn a_fault_of_the_provider_pauses_it_until_one_request_is_answered() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let most_at_once = Arc::new(AtomicUsize::new(0));
    let counts = (Arc::clone(&under_way), Arc::clone(&most_at_once));
    let server = stub::serve(move |n, request| {
        let (under_way, most_at_once) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
            if (1..4).contains(&n) {
                most_at_once.fetch_max(now, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            match n {
                0..4 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                _ => json(format!("[\"{}\"]", asked(&request))),
            }
        }
    })
    .await;
    let mut running = start(each(server.url("/"), &["A"]), None);
    assert_eq!(running.error().await, "the provider answers 503 Service Unavailable");
    let symbols = ["A", "B", "C", "D", "E", "F", "G", "H"];
    running.follow(&symbols);
    let mut seen = BTreeSet::new();
    while seen.len() < symbols.len() {
        let next = tokio::time::timeout(Duration::from_secs(60), running.ticks.recv()).await;
        seen.insert(next.unwrap().unwrap().symbol.unwrap().to_string());
    }
    state(&running, SourceState::Running).await;
    assert_eq!(most_at_once.load(Ordering::SeqCst), 1, "a provider that is down is hammered");
    running.session.abort();
}

#[tokio::test]
async fn a_provider_that_refuses_the_key_is_left_alone() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let server = stub::serve(move |_, _| async move { status.into_response() }).await;
        let running = start(each(server.url("/"), &["A"]), None);
        assert_eq!(running.error().await, format!("the provider answers {status}"));
        state(&running, SourceState::BackingOff).await;
        // Far longer than the interval, and than the backoff of any other fault would begin with.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(server.count(), 1);
        running.session.abort();
    }
}

#[tokio::test]
async fn what_is_no_answer_is_not_published() {
    let server = stub::serve(|n, _| async move {
        match n {
            0 => ([("content-type", "text/html")], "<html>").into_response(),
            1 => json("<html>"),
            _ => json("{}"),
        }
    })
    .await;
    let mut running = start(each(server.url("/"), &["A"]), None);
    let next = tokio::time::timeout(Duration::from_secs(30), running.ticks.recv());
    assert_eq!(next.await.unwrap().unwrap().body, "{}");
    let error = running.error().await;
    assert_eq!(error, "the answer is not application/json");
    running.session.abort();
}

#[tokio::test]
async fn symbols_come_and_go_while_it_runs() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = stub::serve(move |_, request| {
        let symbol = asked(&request);
        log.lock().unwrap().push(symbol.clone());
        async move { json(format!("[\"{symbol}\"]")) }
    })
    .await;
    let mut running = start(each(server.url("/"), &["A"]), None);
    assert_eq!(running.next().await.body, "[\"A\"]");
    running.follow(&["B"]);
    assert_eq!(running.next().await.body, "[\"B\"]");
    server.requests(server.count() + 4).await;
    assert!(seen.lock().unwrap().ends_with(&["B".to_owned(), "B".to_owned()]), "A was left");
    running.session.abort();
}

#[tokio::test]
async fn after_a_restart_the_page_that_the_broker_has_is_not_published_again() {
    let counts = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let server = stub::serve(move |_, request| {
        let symbol = asked(&request);
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(symbol.clone()).or_default();
        *count += 1;
        let body = match count {
            1 => format!("[\"{symbol}\"]"),
            _ => format!("[\"{symbol}\",{count}]"),
        };
        async move { json(body) }
    })
    .await;
    let broker = FakeBroker::default();
    for symbol in ["A", "B"] {
        let hash = pages::short_hash(format!("[\"{symbol}\"]").as_bytes());
        broker.has(&format!("ticks.raw.yahoo.{symbol}"), &format!("yahoo:{symbol}:1:{hash}"));
    }
    let mut running = start_with(&broker, each(server.url("/"), &["A", "B"]), None);
    let mut bodies = vec![running.next().await.body, running.next().await.body];
    bodies.sort();
    assert_eq!(bodies, ["[\"A\",2]", "[\"B\",2]"]);
    running.session.abort();
}

#[tokio::test]
async fn the_quota_is_kept_and_told() {
    let server = stub::serve(|n, _| async move { json(format!("[{n}]")) }).await;
    let mut running = start(poll(server.url("/"), &["A", "B"], 1, Account::new(3, 10, "")), None);
    for _ in 0..3 {
        running.next().await;
    }
    let left = running.status.snapshot().quota;
    assert_eq!(left, Some(QuotaLeft { minute: Some(0), day: Some(7) }));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.count(), 3, "the quota of a minute is used up");
    running.session.abort();
}
