//! What a feed does about the faults of connections and providers.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Bytes;

use super::{
    stub::{Peer, Stub},
    *,
};
use crate::{
    source::ErrorKind,
    testing::{Running, start},
};

/// Says of itself whatever a test wants: `{"ready":…}`, `{"done":1}`, `{"trade":["A",1]}`.
struct Talkative {
    terms: Terms,
    logs_in: bool,
}

const TERMS: Terms = Terms {
    max_symbols: 100,
    symbols_per_request: 100,
    request_interval: Duration::ZERO,
    answers: Answers::Whole,
    lifetime: None,
    hours: None,
};

impl Provider for Talkative {
    fn terms(&self) -> Terms {
        self.terms
    }

    fn login(&self) -> Option<Message> {
        self.logs_in.then(|| Message::text(r#"{"key":"k3y"}"#))
    }

    fn request(&self, action: Action, symbols: &[&Symbol], number: u64) -> Message {
        Message::text(json!([format!("{action:?}"), symbols, number]).to_string())
    }

    fn read(&self, body: &[u8]) -> Result<Heard, FetchError> {
        let said: serde_json::Value = serde_json::from_slice(body)
            .map_err(|error| FetchError::new(ErrorKind::Malformed, error.to_string()))?;
        if let Some(number) = said["trade"][1].as_u64() {
            let symbol = said["trade"][0].as_str().and_then(|name| Symbol::new(name).ok());
            return Ok(Heard::Trades(vec![Trade {
                symbol,
                number: Some(number),
                is_repeat: false,
            }]));
        }
        Ok(Heard::Notice(match said["done"].as_u64() {
            Some(number) => Notice::AllDone(number),
            None if said["ready"].is_boolean() => Notice::Ready,
            None if said["leaving"].is_boolean() => Notice::Leaving,
            None => Notice::Alive,
        }))
    }
}

fn talkative(stub: &Stub) -> Feed {
    let url = Url::parse(&stub.url("/feed?token=k3y")).unwrap();
    let provider = Talkative { terms: TERMS, logs_in: false };
    Feed::new("kraken", url, vec![Symbol::new("A").unwrap()], Format::KrakenTrade, provider)
}

/// A feed that follows A, and the provider's end of it.
async fn follow(feed: impl FnOnce(&Stub) -> Feed) -> (Running, Peer, Stub) {
    let stub = Stub::start().await;
    let running = start(feed(&stub), None);
    let mut peer = stub.accept().await;
    peer.expect(json!(["Follow", ["A"], 1])).await;
    peer.say(r#"{"done":1}"#).await;
    (running, peer, stub)
}

async fn end(running: Running) -> FetchError {
    let (_, end) = running.rest().await;
    let error = end.unwrap_err();
    assert!(!error.message.contains("k3y"), "{error}");
    error
}

#[tokio::test]
async fn every_end_of_a_connection_is_told_by_its_kind() {
    let invalid_utf8 = b"\x81\x04\xff\xfe\xfd\xfc";
    let reserved_opcode = b"\x83\x00";
    for (fault, kind) in [
        ("cut", ErrorKind::Connection),
        ("close", ErrorKind::Connection),
        ("policy", ErrorKind::RateLimited),
        ("too large", ErrorKind::TooLarge),
        ("too large in fragments", ErrorKind::TooLarge),
        ("invalid UTF-8", ErrorKind::Malformed),
        ("no frame", ErrorKind::Malformed),
    ] {
        let (running, mut peer, _stub) = follow(talkative).await;
        match fault {
            "cut" => drop(peer),
            "close" => peer.close(1001, "").await,
            "policy" => peer.close(1008, "too many requests").await,
            "too large" => peer.say("x".repeat(600 * 1024)).await,
            "too large in fragments" => {
                let mut fragment = vec![0x01, 127, 0, 0, 0, 0, 0, 6, 0, 0];
                fragment.resize(10 + 6 * 65_536, b'x');
                peer.raw(&fragment).await;
                fragment[0] = 0x00;
                peer.raw(&fragment).await;
            }
            "invalid UTF-8" => peer.raw(invalid_utf8).await,
            _ => peer.raw(reserved_opcode).await,
        }
        let error = end(running).await;
        assert_eq!(error.kind, kind, "{fault}: {error}");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_not_waited_for() {
    // No handshake.
    let stub = Stub::start().await;
    let mut feed = talkative(&stub);
    feed.patience.step = Duration::from_millis(200);
    let running = start(feed, None);
    let _silent = stub.tcp().await;
    let error = end(running).await;
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.starts_with("no WebSocket handshake"), "{error}");

    // No answer to the login, and none to the subscription.
    for (logs_in, expected) in
        [(true, "the login was not answered"), (false, "a subscription was not answered")]
    {
        let mut feed = talkative(&stub);
        feed.patience.step = Duration::from_secs(2);
        feed.patience.answer = Duration::from_millis(200);
        feed.provider = Box::new(Talkative { terms: TERMS, logs_in });
        let running = start(feed, None);
        let _peer = stub.accept().await;
        let error = end(running).await;
        assert_eq!((error.kind, &*error.message), (ErrorKind::Timeout, expected));
    }
}

#[tokio::test]
async fn a_silent_provider_is_pinged_and_then_gone() {
    let (running, _peer, _stub) = follow(|stub| {
        let mut feed = talkative(stub);
        feed.patience.silence = Duration::from_secs(1);
        feed
    })
    .await;
    let error = end(running).await;
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.ends_with("not even a pong"), "{error}");
}

#[tokio::test]
async fn a_quiet_provider_that_answers_pings_lives() {
    let (mut running, mut peer, _stub) = follow(|stub| {
        let mut feed = talkative(stub);
        feed.patience.silence = Duration::from_secs(1);
        feed
    })
    .await;
    peer.pings(2).await;
    peer.say(r#"{"trade":["A",1]}"#).await;
    assert_eq!(running.next().await.id, "kraken:A:1");
    assert_eq!(running.status.snapshot().last_error, None);
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (_running, mut peer, _stub) = follow(talkative).await;
    peer.send(Message::Ping(Bytes::from_static(b"are you there"))).await;
    assert_eq!(peer.pong().await, "are you there");
}

#[tokio::test]
async fn a_feed_without_trades_in_market_hours_is_stale_though_it_answers_pings() {
    let (running, mut peer, _stub) = follow(|stub| {
        let mut feed = talkative(stub);
        feed.patience.trades = Duration::from_secs(1);
        let terms = Terms { hours: Some(Calendar::Always), ..TERMS };
        feed.provider = Box::new(Talkative { terms, logs_in: false });
        feed
    })
    .await;
    let (error, ()) = tokio::join!(end(running), peer.idle());
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.starts_with("no symbol had a trade"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_is_refused_says_why_and_how_long_to_stay_away() {
    for (answer, kind, wait) in [
        ("401 Unauthorized\r\n", ErrorKind::Unauthorized, Some(AFTER_REFUSAL)),
        (
            "429 Too Many Requests\r\nRetry-After: 7\r\n",
            ErrorKind::RateLimited,
            Some(Duration::from_secs(7)),
        ),
        ("503 Service Unavailable\r\n", ErrorKind::Provider, None),
        ("200 OK\r\n", ErrorKind::Provider, None),
    ] {
        let stub = Stub::start().await;
        let running = start(talkative(&stub), None);
        let mut stream = stub.tcp().await;
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let error = end(running).await;
        assert_eq!((error.kind, error.retry_after), (kind, wait), "{answer}: {error}");
    }
}

#[tokio::test]
async fn a_provider_that_speaks_no_tls_is_told() {
    let stub = Stub::start().await;
    let mut feed = talkative(&stub);
    feed.url = Url::parse(&stub.url("/").replace("ws://", "wss://")).unwrap();
    let running = start(feed, None);
    let mut stream = stub.tcp().await;
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    assert_eq!(end(running).await.kind, ErrorKind::Tls);
}

#[tokio::test]
async fn a_provider_that_talks_nonsense_is_left() {
    let (mut running, mut peer, _stub) = follow(talkative).await;
    for number in 1..3 {
        for _ in 0..15 {
            peer.say("<html>").await;
        }
        peer.say(format!(r#"{{"trade":["A",{number}]}}"#)).await;
        running.next().await;
    }
    for _ in 0..20 {
        peer.send(Message::binary(vec![0xc1])).await;
    }
    assert_eq!(end(running).await.kind, ErrorKind::Malformed);
}

#[tokio::test]
async fn a_connection_is_replaced_before_it_is_too_old_and_asked_for_everything_again() {
    let stub = Stub::start().await;
    let mut feed = talkative(&stub);
    let terms = Terms { lifetime: Some(Duration::from_secs(3)), ..TERMS };
    feed.provider = Box::new(Talkative { terms, logs_in: true });
    let mut running = start(feed, None);
    for connection in 0..2 {
        let mut peer = stub.accept().await;
        peer.expect(json!({ "key": "k3y" })).await;
        peer.say(r#"{"ready":true}"#).await;
        peer.expect(json!(["Follow", ["A"], 1])).await;
        peer.say(r#"{"done":1}"#).await;
        peer.say(format!(r#"{{"trade":["A",{connection}]}}"#)).await;
        running.next().await;
        assert!(peer.hear().await.is_close());
    }
    assert_eq!(running.status.snapshot().last_error, None, "no failure, and nothing missed");
}

#[tokio::test]
async fn a_provider_that_leaves_at_once_is_not_come_back_to_in_haste() {
    let (running, mut peer, _stub) = follow(talkative).await;
    peer.say(r#"{"leaving":true}"#).await;
    assert_eq!(end(running).await.kind, ErrorKind::Connection);
}

#[tokio::test]
async fn where_nothing_is_followed_there_is_no_connection() {
    let (mut running, mut peer, stub) = follow(talkative).await;
    running.follow(&[]);
    assert!(peer.hear().await.is_close());
    running.follow(&["B"]);
    let mut peer = stub.accept().await;
    peer.expect(json!(["Follow", ["B"], 1])).await;
    peer.say(r#"{"done":1}"#).await;
    peer.say(r#"{"trade":["B",1]}"#).await;
    assert_eq!(running.next().await.id, "kraken:B:1");
}

#[tokio::test]
async fn what_was_missed_is_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (mut running, mut peer, _stub) = follow(talkative).await;
    for number in [1, 5, 6, 8] {
        peer.say(format!(r#"{{"trade":["A",{number}]}}"#)).await;
        running.next().await;
    }
    let told = handle.render();
    for expected in [
        "lizards_ingest_missed_total{kind=\"kraken\"} 4",
        "lizards_ingest_fetch_errors_total{kind=\"kraken\",error=\"missed\"} 2",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    let status = Arc::clone(&running.status);
    assert_eq!(status.snapshot().last_error.unwrap(), "1 trades of A after 6 were missed");
}
