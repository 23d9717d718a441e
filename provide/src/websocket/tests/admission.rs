//! Who may connect, and how much a client may ask for.

use super::*;
use crate::config::ApiKey;
use axum::http::{HeaderMap, StatusCode, header};

const API_KEY: &str = "correct-horse-battery";

fn guarded() -> WebSocketConfig {
    WebSocketConfig {
        token_key: "0123456789abcdef0123456789abcdef".to_owned(),
        api_keys: vec![ApiKey {
            name: "desk".to_owned(),
            key: API_KEY.to_owned(),
            symbols: vec!["A".to_owned(), "BTC-*".to_owned()],
        }],
        ..WebSocketConfig::default()
    }
}

/// Why a connection is refused.
async fn refusal(server: &Fixture, query: &str, headers: &[(&'static str, &str)]) -> StatusCode {
    match server.connect(query, headers).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            StatusCode::from_u16(response.status().as_u16()).unwrap()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

fn token(server: &Fixture) -> String {
    let credentials = format!("Bearer {API_KEY}").parse().unwrap();
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, credentials)]);
    server.access.issue(&headers).unwrap().unwrap().token
}

#[tokio::test]
async fn a_token_opens_and_says_what_for() {
    let server = Fixture::with(guarded(), Arc::default()).await;
    for symbol in ["A", "B", "BTC-USD"] {
        server.publish(symbol, "1").await;
    }
    let token = token(&server);
    let mut client = server.client(&format!("?token={token}&symbols=A,B,BTC-*,*")).await;
    for symbol in ["B", "*"] {
        let error = client.error().await;
        assert_eq!((error.code, error.symbols), (ErrorCode::Forbidden, vec![symbol.to_owned()]));
    }
    assert_eq!(client.subscribed().await, ["A", "BTC-*"]);
    assert_eq!(client.price().await.symbol, "A");
    assert_eq!(client.price().await.symbol, "BTC-USD");
    // What is not allowed is not told to be there or not.
    client.send(r#"{"type":"subscribe","symbols":["NONE"]}"#).await;
    assert_eq!(client.error().await.code, ErrorCode::Forbidden);
    let bearer = format!("Bearer {token}");
    let (mut other, _) = server.connect("?symbols=A", &[("authorization", &bearer)]).await.unwrap();
    other.subscribed().await;
}

#[tokio::test]
async fn without_a_valid_token_nobody_comes_in() {
    let server = Fixture::with(guarded(), Arc::default()).await;
    let token = token(&server);
    let changed = format!("?token={}x", &token[..token.len() - 1]);
    for query in ["", "?token=", "?token=nonsense", &changed] {
        assert_eq!(refusal(&server, query, &[]).await, StatusCode::UNAUTHORIZED, "{query}");
    }
    let key = format!("Bearer {API_KEY}");
    let refused = refusal(&server, "", &[("authorization", &key)]).await;
    assert_eq!(refused, StatusCode::UNAUTHORIZED, "an API key is no token");
    assert_eq!(server.connections.load().load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn pages_of_other_origins_may_connect_where_they_are_named() {
    let config = WebSocketConfig {
        allowed_origins: vec!["https://app.example".to_owned()],
        ..WebSocketConfig::default()
    };
    let server = Fixture::with(config, Arc::default()).await;
    let own = format!("http://{}", server.address);
    for origin in ["https://app.example", &own] {
        assert!(server.connect("", &[("origin", origin)]).await.is_ok(), "{origin}");
    }
    for origin in ["https://evil.example", "null"] {
        let refused = refusal(&server, "", &[("origin", origin)]).await;
        assert_eq!(refused, StatusCode::FORBIDDEN, "{origin}");
    }
}

#[tokio::test]
async fn more_clients_than_may_be_are_sent_away() {
    let config = WebSocketConfig { max_connections: 2, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    let first = server.client("").await;
    let _second = server.client("").await;
    assert_eq!(refusal(&server, "", &[]).await, StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    let comes_in = async {
        while server.connect("", &[]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, comes_in).await.expect("there is room again");
}

#[tokio::test]
async fn a_flood_is_told_so_and_closed_and_costs_the_others_nothing() {
    let config = WebSocketConfig { max_messages_per_second: 5, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    server.publish("A", "1").await;
    let mut other = server.client("?symbols=A").await;
    other.subscribed().await;
    other.price().await;
    for flood in [Message::text("nonsense"), Message::Ping("x".into())] {
        let mut client = server.client("").await;
        for _ in 0..200 {
            if client.0.send(flood.clone()).await.is_err() {
                break;
            }
        }
        let mut errors = 0;
        let close = loop {
            match client.receive().await {
                Ok(ServerMessage::Error(error)) if error.code == ErrorCode::InvalidMessage => {
                    errors += 1;
                }
                Ok(ServerMessage::Error(error)) => {
                    assert_eq!(error.code, ErrorCode::TooManyMessages);
                }
                Ok(other) => panic!("{other:?}"),
                Err(close) => break close.expect("a close frame"),
            }
        };
        assert_eq!(u16::from(close.code), 1008);
        // Ten seconds' worth at once, and what fell due meanwhile.
        assert!(errors < 100, "{errors}");
    }
    server.publish("A", "2").await;
    assert_eq!(other.price().await.seq, 2);
}
