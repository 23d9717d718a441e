use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    sources::feed::stub::{Peer, Stub},
    testing::{Running, bodies, start},
};

const HEARTBEAT: &str = r#"{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}"#;

fn trade(kind: &str, id: u64) -> String {
    format!(
        r#"{{"type":"{kind}", "trade_id":{id},"sequence":50,"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}}"#
    )
}

fn request(kind: &str, products: &[&str]) -> serde_json::Value {
    json!({ "type": kind, "product_ids": products, "channels": ["matches", "heartbeat"] })
}

fn subscriptions(products: &[&str]) -> String {
    let channels = ["matches", "heartbeat"];
    let channels = channels.map(|name| json!({ "name": name, "product_ids": products }));
    json!({ "type": "subscriptions", "channels": channels }).to_string()
}

/// A feed of these products, and the provider's end, which has not been asked yet.
async fn connect(products: &[&str], resume: Option<&str>) -> (Running, Peer) {
    let stub = Stub::start().await;
    let symbols = products.iter().map(|&product| product.to_owned()).collect();
    let config = CoinbaseConfig { url: stub.url("/"), symbols, ..CoinbaseConfig::default() };
    let running = start(feed(&config).unwrap(), resume);
    let peer = stub.accept().await;
    (running, peer)
}

/// A feed of bitcoin whose subscription is answered.
async fn subscribe(resume: Option<&str>) -> (Running, Peer) {
    let (running, mut peer) = connect(&["BTC-USD"], resume).await;
    peer.expect(request("subscribe", &["BTC-USD"])).await;
    peer.say(subscriptions(&["BTC-USD"])).await;
    (running, peer)
}

#[tokio::test]
async fn trades_are_published_byte_for_byte_and_the_rest_is_not() {
    let (running, mut peer) = subscribe(None).await;
    peer.say(trade("last_match", 20)).await;
    peer.say(HEARTBEAT).await;
    peer.say(trade("match", 21)).await;
    peer.say(r#"{"type":"status","products":[]}"#).await;
    peer.say(trade("match", 22)).await;
    peer.close(1000, "").await;
    let (ticks, end) = running.rest().await;
    assert_eq!(bodies(&ticks), [trade("last_match", 20), trade("match", 21), trade("match", 22)]);
    let ids: Vec<_> = ticks.iter().map(|tick| tick.id.as_str()).collect();
    assert_eq!(ids, ["coinbase:BTC-USD:20", "coinbase:BTC-USD:21", "coinbase:BTC-USD:22"]);
    assert_eq!(ticks[0].symbol, Some(Symbol::new("BTC-USD").unwrap()));
    assert_eq!(end.unwrap_err().kind, ErrorKind::Connection);
}

#[tokio::test]
async fn what_is_stored_is_not_published_again_and_what_was_missed_is_told() {
    let (running, mut peer) = subscribe(Some("coinbase:BTC-USD:20")).await;
    peer.say(trade("last_match", 20)).await;
    peer.say(trade("match", 21)).await;
    peer.say(trade("match", 24)).await;
    peer.close(1000, "").await;
    let status = Arc::clone(&running.status);
    let (ticks, _) = running.rest().await;
    assert_eq!(bodies(&ticks), [trade("match", 21), trade("match", 24)]);
    let told = status.snapshot().last_error.unwrap();
    assert_eq!(told, "2 trades of BTC-USD after 21 were missed");

    let (mut running, mut peer) = subscribe(Some("coinbase:BTC-USD:10")).await;
    peer.say(trade("last_match", 20)).await;
    assert_eq!(running.next().await.id, "coinbase:BTC-USD:20", "a last trade that is new");
}

#[tokio::test]
async fn a_product_that_is_not_known_is_told_and_takes_no_other_with_it() {
    let (mut running, mut peer) = connect(&["BTC-USD", "FOO-USD"], None).await;
    peer.expect(request("subscribe", &["BTC-USD", "FOO-USD"])).await;
    peer.say(r#"{"type":"error","message":"Failed to subscribe","reason":"FOO-USD is not a valid product"}"#)
        .await;
    peer.expect(request("subscribe", &["BTC-USD"])).await;
    peer.say(subscriptions(&["BTC-USD"])).await;
    peer.say(trade("match", 1)).await;
    assert_eq!(running.next().await.id, "coinbase:BTC-USD:1");
    let told = "FOO-USD is not followed: Failed to subscribe: FOO-USD is not a valid product";
    assert_eq!(running.error().await, told);
}

#[tokio::test]
async fn products_come_and_go_over_the_same_connection() {
    let (running, mut peer) = subscribe(None).await;
    running.follow(&["BTC-USD", "ETH-USD"]);
    peer.expect(request("subscribe", &["ETH-USD"])).await;
    peer.say(subscriptions(&["BTC-USD", "ETH-USD"])).await;
    running.follow(&["ETH-USD"]);
    peer.expect(request("unsubscribe", &["BTC-USD"])).await;
    peer.say(subscriptions(&["ETH-USD"])).await;
}

#[tokio::test]
async fn an_error_that_answers_nothing_ends_the_session() {
    let (running, mut peer) = subscribe(None).await;
    peer.say(trade("match", 1)).await;
    peer.say(r#"{"type":"error","message":"internal error"}"#).await;
    let (_, end) = running.rest().await;
    let end = end.unwrap_err();
    assert_eq!(
        (end.kind, &*end.message),
        (ErrorKind::Provider, "the provider answers: internal error")
    );
}

#[tokio::test]
async fn a_message_that_means_nothing_harms_no_other() {
    let (mut running, mut peer) = subscribe(None).await;
    peer.say("nonsense").await;
    peer.say(r#"{"type":"match","price":"1"}"#).await;
    peer.say(trade("match", 7)).await;
    assert_eq!(bodies(&[running.next().await]), [trade("match", 7)]);
    let error = running.status.snapshot().last_error.unwrap();
    assert_eq!(error, "a match without product_id or trade_id cannot be told from another");
}
