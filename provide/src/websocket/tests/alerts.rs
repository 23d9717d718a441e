//! Alerts beside prices.

use schemas::{ErrorCode, ServerMessage, msgpack};
use tokio_tungstenite::tungstenite::Message;

use super::{Client, Fixture, PATIENCE};
use crate::{
    alerts::AlertFrame,
    config::{ApiKey, WebSocketConfig},
};

/// An alert of a rule, with the tick of that sequence.
fn alert(rule: &str, seq: u64, symbol: &str, owner: Option<&str>) -> AlertFrame {
    let body = serde_json::json!({
        "id": format!("{rule}-{seq}"), "rule": rule, "condition": format!("{symbol} > 1.50"),
        "symbol": symbol, "value": "1.60", "bound": "1.50", "price": "1.60",
        "ts": "2024-09-14T12:34:56Z", "source": "sim", "seq": seq, "owner": owner,
    });
    AlertFrame::read(body.to_string().as_bytes()).unwrap()
}

impl Client {
    /// The id of the next message, which is an alert.
    async fn alert(&mut self) -> String {
        match self.receive().await {
            Ok(ServerMessage::Alert { data }) => data.id,
            other => panic!("no alert but {other:?}"),
        }
    }

    /// The rules of the next message, which is a `subscribed`.
    async fn following(&mut self) -> Vec<String> {
        match self.receive().await {
            Ok(ServerMessage::Subscribed(subscribed)) => subscribed.alerts,
            other => panic!("not subscribed but {other:?}"),
        }
    }
}

#[tokio::test]
async fn those_of_the_rules_that_are_followed_come_and_no_others() {
    let server = Fixture::start().await;
    let mut client = server.client("").await;
    client.send(r#"{"type":"subscribe","alerts":["b","a"],"id":"x"}"#).await;
    assert_eq!(client.following().await, ["a", "b"]);
    for (rule, seq) in [("a", 1), ("c", 2), ("b", 3)] {
        server.alerts.publish(alert(rule, seq, "A", None));
    }
    assert_eq!(client.alert().await, "a-1");
    assert_eq!(client.alert().await, "b-3");

    client.send(r#"{"type":"unsubscribe","symbols":[],"alerts":["a"]}"#).await;
    assert_eq!(client.following().await, ["b"]);
    client.send(r#"{"type":"subscribe","alerts":["*"]}"#).await;
    assert_eq!(client.following().await, ["*", "b"]);
    server.alerts.publish(alert("c", 4, "A", Some("desk")));
    assert_eq!(client.alert().await, "c-4");
    client.send(r#"{"type":"unsubscribe","symbols":[],"alerts":["*","b"]}"#).await;
    assert!(client.following().await.is_empty());
    server.alerts.publish(alert("b", 5, "A", None));
    client.is_quiet().await;
}

#[tokio::test]
async fn an_address_can_ask_for_them_in_either_form() {
    let server = Fixture::start().await;
    let mut client = server.client("?alerts=*").await;
    assert_eq!(client.following().await, ["*"]);
    let protocol = [("sec-websocket-protocol", msgpack::PROTOCOL)];
    let (mut packed, _) = server.connect("?alerts=a", &protocol).await.unwrap();
    let mut next = async || {
        use futures_util::StreamExt;
        let message = tokio::time::timeout(PATIENCE, packed.0.next()).await.unwrap();
        let Message::Binary(bytes) = message.unwrap().unwrap() else { panic!("not binary") };
        msgpack::to_json(&bytes).unwrap()
    };
    assert_eq!(next().await["alerts"], serde_json::json!(["a"]));
    server.alerts.publish(alert("a", 7, "A", None));
    assert_eq!(client.alert().await, "a-7");
    let alert = next().await;
    assert_eq!(alert["type"], "alert");
    assert_eq!((&alert["data"]["id"], &alert["data"]["value"]), (&"a-7".into(), &"1.60".into()));
}

#[tokio::test]
async fn a_token_shows_only_the_alerts_of_its_holder() {
    let config = WebSocketConfig {
        token_key: "0123456789abcdef0123456789abcdef".to_owned(),
        api_keys: vec![ApiKey {
            name: "desk".to_owned(),
            key: "correct-horse-battery".to_owned(),
            symbols: vec!["BTC-*".to_owned()],
        }],
        ..WebSocketConfig::default()
    };
    let server = Fixture::with(config, Default::default()).await;
    let key = "Bearer correct-horse-battery".parse().unwrap();
    let headers = [(axum::http::header::AUTHORIZATION, key)].into_iter().collect();
    let token = server.access.issue(&headers).unwrap().unwrap().token;
    let mut client = server.client(&format!("?alerts=*&token={token}")).await;
    client.following().await;
    for (seq, symbol, owner) in
        [(1, "BTC-USD", None), (2, "BTC-USD", Some("page")), (3, "AAPL", Some("desk"))]
    {
        server.alerts.publish(alert("a", seq, symbol, owner));
    }
    server.alerts.publish(alert("a", 4, "BTC-USD", Some("desk")));
    assert_eq!(client.alert().await, "a-4");
    client.is_quiet().await;
}

#[tokio::test]
async fn what_cannot_be_followed_is_named_and_spoils_no_other() {
    let config = WebSocketConfig { max_symbols: 2, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Default::default()).await;
    let mut client = server.client("").await;
    let long = "x".repeat(65);
    client
        .send(&format!(r#"{{"type":"subscribe","alerts":["{long}","a","b","c"],"id":"x"}}"#))
        .await;
    let error = client.error().await;
    assert_eq!((error.code, error.id.as_deref()), (ErrorCode::InvalidMessage, Some("x")));
    assert_eq!(client.error().await.code, ErrorCode::TooManySymbols);
    assert_eq!(client.following().await, ["a", "b"]);
}

#[tokio::test]
async fn a_client_that_takes_none_is_bounded() {
    use crate::{
        access::Permit,
        alerts::{AlertHub, AlertQueue},
    };
    let (hub, queue) = (AlertHub::default(), AlertQueue::new(2, Permit::All));
    hub.join(&queue);
    queue.follow("*".to_owned());
    for seq in 1..=2 {
        hub.publish(alert("a", seq, "A", None));
    }
    assert!(!queue.has_overflowed());
    hub.publish(alert("a", 3, "A", None));
    assert!(queue.has_overflowed() && queue.take(9).is_empty());
}
