//! Clients as a browser is one, over real sockets.

use std::collections::VecDeque;

use schemas::{ErrorCode, ServerMessage};
use tokio::time::timeout;

use crate::{
    config::WebSocketConfig,
    websocket::tests::{Fixture, PATIENCE},
};

/// What a browser's EventSource makes of a stream.
struct EventSource {
    response: reqwest::Response,
    text: String,
    /// Without its data: comments, ids, times to come back.
    events: VecDeque<(Option<u64>, ServerMessage)>,
    comments: usize,
    last_event_id: Option<u64>,
    retry_ms: Option<u64>,
}

async fn get(server: &Fixture, query: &str, last_event_id: Option<u64>) -> reqwest::Response {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("http://{}/events{query}", server.address));
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    request.send().await.unwrap()
}

impl EventSource {
    async fn open(server: &Fixture, query: &str, last_event_id: Option<u64>) -> Self {
        let response = get(server, query, last_event_id).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let (text, events) = (String::new(), VecDeque::new());
        Self { response, text, events, comments: 0, last_event_id, retry_ms: None }
    }

    /// The next event and its id; `None` at the end.
    async fn next(&mut self) -> Option<(Option<u64>, ServerMessage)> {
        while self.events.is_empty() {
            let piece = timeout(PATIENCE, self.response.chunk()).await.expect("it says something");
            self.text.push_str(std::str::from_utf8(&piece.ok()??).unwrap());
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read(&event);
                self.text = rest;
            }
        }
        let (id, message) = self.events.pop_front()?;
        self.last_event_id = id.or(self.last_event_id);
        Some((id, message))
    }

    fn read(&mut self, event: &str) {
        let mut id = None;
        for line in event.lines() {
            match line.split_once(": ").unwrap() {
                ("", _) => self.comments += 1,
                ("id", sequence) => id = Some(sequence.parse().unwrap()),
                ("retry", milliseconds) => self.retry_ms = Some(milliseconds.parse().unwrap()),
                ("data", json) => {
                    self.events.push_back((id, ServerMessage::from_json(json).unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn message(&mut self) -> ServerMessage {
        self.next().await.expect("it goes on").1
    }

    /// The next price: its symbol and its sequence, which is its id.
    async fn price(&mut self) -> (String, u64) {
        match self.next().await {
            Some((id, ServerMessage::PriceUpdate { data, .. })) => {
                let (symbol, update) = data.into_iter().next().unwrap();
                assert_eq!(id, Some(update.seq));
                (symbol, update.seq)
            }
            other => panic!("no price but {other:?}"),
        }
    }

    async fn sequences(&mut self, count: usize) -> Vec<u64> {
        let mut sequences = Vec::new();
        for _ in 0..count {
            sequences.push(self.price().await.1);
        }
        sequences
    }

    async fn subscribed(&mut self) -> Vec<String> {
        match self.next().await {
            Some((None, ServerMessage::Subscribed(subscribed))) => subscribed.symbols,
            other => panic!("not subscribed but {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_newest_prices_come_first_then_live_and_ids_only_grow() {
    let server = Fixture::start().await;
    for symbol in ["B", "C", "A", "B"] {
        server.publish(symbol, "1").await;
    }
    let mut events = EventSource::open(&server, "?symbols=A,B,NONE", None).await;
    let ServerMessage::Error(error) = events.message().await else { panic!("no error") };
    assert_eq!((error.code, error.symbols), (ErrorCode::InvalidSymbol, vec!["NONE".to_owned()]));
    assert_eq!(events.subscribed().await, ["A", "B"]);
    assert_eq!([events.price().await, events.price().await], [("A".into(), 3), ("B".into(), 4)]);
    server.publish("C", "1").await;
    server.publish("A", "2").await;
    assert_eq!(events.price().await, ("A".into(), 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_with_the_last_id_has_no_hole_and_no_double() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let broker = server.broker.clone();
    let publishing = tokio::spawn(async move {
        for _ in 0..3_000 {
            broker.publish("A", "1");
            broker.publish("B", "1");
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
    });
    let (mut last, mut all) = (Some(0), Vec::new());
    for round in 0..20 {
        let mut events = EventSource::open(&server, "?symbols=A&from_seq=0", last).await;
        events.subscribed().await;
        all.extend(events.sequences(1 + 13 * round).await);
        last = events.last_event_id;
    }
    publishing.await.unwrap();
    assert!(all.len() > 2_000);
    // From the second on every other tick is of the other symbol.
    let expected = std::iter::once(1).chain((2..).step_by(2));
    let wrong = all.iter().copied().zip(expected).find(|(is, should_be)| is != should_be);
    assert_eq!(wrong, None);
}

#[tokio::test]
async fn a_snapshot_that_broke_off_is_resumed_from_its_last_id() {
    let server = Fixture::start().await;
    for symbol in ["C", "B", "A"] {
        server.publish(symbol, "1").await;
    }
    let mut events = EventSource::open(&server, "?symbols=*", None).await;
    events.subscribed().await;
    assert_eq!(events.price().await, ("C".into(), 1));
    let mut back = EventSource::open(&server, "?symbols=*", Some(1)).await;
    back.subscribed().await;
    assert_eq!([back.price().await, back.price().await], [("B".into(), 2), ("A".into(), 3)]);
}

#[tokio::test]
async fn conflated_ids_grow_too() {
    let server = Fixture::start().await;
    for symbol in ["A", "B", "C"] {
        server.publish(symbol, "0").await;
    }
    let mut events = EventSource::open(&server, "?symbols=*&conflate_ms=20", None).await;
    events.subscribed().await;
    for round in 0..300 {
        server.broker.publish(["A", "B", "C"][round * 7 % 3], "1");
        tokio::time::sleep(std::time::Duration::from_micros(300)).await;
    }
    let (mut seen, mut last) = (0, 0);
    while last < 303 {
        let sequence = events.price().await.1;
        assert!(sequence > last, "{sequence} after {last}");
        (seen, last) = (seen + 1, sequence);
    }
    assert!(seen < 200, "{seen}");
}

#[tokio::test]
async fn an_idle_stream_hears_a_heartbeat_and_a_closed_one_leaves_nothing_behind() {
    let config = WebSocketConfig { heartbeat_secs: 1, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Default::default()).await;
    server.publish("A", "1").await;
    let mut events = EventSource::open(&server, "?symbols=A", None).await;
    events.subscribed().await;
    events.price().await;
    let silent = tokio::time::timeout(std::time::Duration::from_millis(3_500), events.next()).await;
    assert!(silent.is_err() && events.comments >= 2, "{}", events.comments);
    drop(events);
    timeout(PATIENCE, server.connections.closed()).await.unwrap();
    assert_eq!(server.hub.subscribers(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_and_can_come_back() {
    let config = WebSocketConfig { queue_frames: 200, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Default::default()).await;
    server.publish("A", "1").await;
    let mut slow = EventSource::open(&server, "?symbols=A", None).await;
    while server.hub.subscribers() == 1 {
        for _ in 0..50 {
            server.broker.publish("A", "1");
        }
        server.publish("A", "1").await;
    }
    slow.subscribed().await;
    let mut expected = 1;
    let closing = loop {
        match slow.next().await {
            Some((Some(id), ServerMessage::PriceUpdate { .. })) => {
                assert_eq!(id, expected);
                expected += 1;
            }
            Some((None, ServerMessage::Closing(closing))) => break Some(closing),
            None => break None,
            other => panic!("{other:?}"),
        }
    };
    if let Some(closing) = closing {
        assert_eq!(closing.reason, schemas::CloseReason::TooSlow);
        assert_eq!(slow.retry_ms, Some(closing.retry_after_ms));
    }
    let mut back = EventSource::open(&server, "?symbols=A", slow.last_event_id).await;
    back.subscribed().await;
    assert_eq!(back.price().await.1, expected);
}

#[tokio::test]
async fn a_planned_end_says_when_to_come_back_and_a_new_stream_with_what() {
    let server = Fixture::start().await;
    for _ in 0..5 {
        server.publish("A", "1").await;
    }
    let mut events = EventSource::open(&server, "?symbols=A", None).await;
    events.subscribed().await;
    events.price().await;
    server.broker.make_anew();
    server.broker.publish("A", "2");
    let Some((Some(0), ServerMessage::Closing(closing))) = events.next().await else {
        panic!("not closed")
    };
    assert_eq!(closing.reason, schemas::CloseReason::StreamBreak);
    assert_eq!(events.last_event_id, Some(0));
    assert!(events.next().await.is_none());

    let mut events = EventSource::open(&server, "?symbols=A", Some(0)).await;
    events.subscribed().await;
    assert_eq!(events.price().await.1, 1);
    server.shutdown.cancel();
    let ServerMessage::Closing(closing) = events.message().await else { panic!("not closed") };
    assert_eq!(closing.reason, schemas::CloseReason::Shutdown);
    assert!(events.retry_ms >= Some(100) && events.next().await.is_none());
    assert_eq!(events.last_event_id, Some(1));
}

#[tokio::test]
async fn what_cannot_be_had_is_a_problem() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    for (query, status) in [
        ("", 400),
        ("?symbols=", 400),
        ("?symbols=NONE", 404),
        ("?symbols=A&conflate_ms=x", 400),
        ("?symbols=A&conflate_ms=99999", 400),
        ("?symbols=A&from_seq=1&from_time=2024-01-01T00:00:00Z", 400),
    ] {
        let response = get(&server, query, None).await;
        assert_eq!(response.status(), status, "{query}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    let guarded = WebSocketConfig {
        token_key: "0123456789abcdef0123456789abcdef".to_owned(),
        ..WebSocketConfig::default()
    };
    let server = Fixture::with(guarded, Default::default()).await;
    assert_eq!(get(&server, "?symbols=A", None).await.status(), 401);
}
