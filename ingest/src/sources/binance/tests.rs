use serde_json::{Value, json};

use super::*;
use crate::{
    sources::feed::stub::{Peer, Stub},
    testing::{Running, bodies, start},
};

fn trade(symbol: &str, number: u64) -> String {
    format!(
        r#"{{"e":"trade","E":1672515782136,"s":"{symbol}","t":{number},"p":"0.00100000","q":"100","T":1672515782136,"m":true,"M":true}}"#
    )
}

fn request(method: &str, streams: &[&str], number: u64) -> Value {
    json!({ "method": method, "params": streams, "id": number })
}

fn config(url: String, symbols: &[&str]) -> BinanceConfig {
    BinanceConfig {
        url,
        symbols: symbols.iter().map(|&name| name.to_owned()).collect(),
        ..BinanceConfig::default()
    }
}

async fn subscribe(symbols: &[&str]) -> (Running, Peer) {
    let stub = Stub::start().await;
    let running = start(feed(&config(stub.url("/ws"), symbols)).unwrap(), None);
    let peer = stub.accept().await;
    assert_eq!(peer.path, "/ws");
    (running, peer)
}

#[tokio::test]
async fn each_trade_is_a_payload_with_its_number_in_its_id() {
    let (mut running, mut peer) = subscribe(&["BNBBTC", "BTCUSDT"]).await;
    peer.expect(request("SUBSCRIBE", &["bnbbtc@trade", "btcusdt@trade"], 1)).await;
    peer.say(r#"{"result":null,"id":1}"#).await;
    let wrapped = format!(r#"{{"stream":"btcusdt@trade","data":{}}}"#, trade("BTCUSDT", 9));
    let messages = [trade("BNBBTC", 12345), wrapped, trade("BNBBTC", 12348)];
    let mut ticks = Vec::new();
    for message in &messages {
        peer.say(message).await;
        ticks.push(running.next().await);
    }
    assert_eq!(bodies(&ticks), messages);
    let ids: Vec<_> = ticks.iter().map(|tick| tick.id.as_str()).collect();
    assert_eq!(ids, ["binance:BNBBTC:12345", "binance:BTCUSDT:9", "binance:BNBBTC:12348"]);
    assert_eq!(running.error().await, "2 trades of BNBBTC after 12345 were missed");
}

#[tokio::test]
async fn symbols_come_and_go_over_the_same_connection() {
    let (running, mut peer) = subscribe(&["BNBBTC"]).await;
    peer.expect(request("SUBSCRIBE", &["bnbbtc@trade"], 1)).await;
    peer.say(r#"{"result":null,"id":1}"#).await;
    running.follow(&["BTCUSDT"]);
    peer.expect(request("UNSUBSCRIBE", &["bnbbtc@trade"], 2)).await;
    peer.say(r#"{"result":null,"id":2}"#).await;
    peer.expect(request("SUBSCRIBE", &["btcusdt@trade"], 3)).await;
    peer.say(r#"{"result":null,"id":3}"#).await;
}

#[tokio::test]
async fn a_stream_that_is_refused_is_found_and_told() {
    let (mut running, mut peer) = subscribe(&["BAD!", "BNBBTC"]).await;
    peer.expect(request("SUBSCRIBE", &["bad!@trade", "bnbbtc@trade"], 1)).await;
    peer.say(r#"{"error":{"code":2,"msg":"Invalid request: bad stream"},"id":1}"#).await;
    peer.expect(request("SUBSCRIBE", &["bad!@trade"], 2)).await;
    peer.say(r#"{"code":2,"msg":"Invalid request: bad stream"}"#).await;
    peer.expect(request("SUBSCRIBE", &["bnbbtc@trade"], 3)).await;
    peer.say(r#"{"result":null,"id":3}"#).await;
    peer.say(trade("BNBBTC", 1)).await;
    running.next().await;
    assert_eq!(running.error().await, "BAD! is not followed: Invalid request: bad stream");
}

#[tokio::test]
async fn a_server_that_shuts_down_and_one_that_is_asked_too_much_are_left_for_a_while() {
    let (running, mut peer) = subscribe(&["BNBBTC"]).await;
    peer.say(r#"{"e":"serverShutdown","E":1770123456789}"#).await;
    let (_, end) = running.rest().await;
    assert_eq!(end.unwrap_err().kind, ErrorKind::Connection);

    let (running, mut peer) = subscribe(&["BNBBTC"]).await;
    peer.close(1008, "Too many requests").await;
    let (_, end) = running.rest().await;
    assert_eq!(end.unwrap_err().kind, ErrorKind::RateLimited);
}

#[tokio::test]
async fn a_trade_that_cannot_be_told_from_another_is_told() {
    let (running, mut peer) = subscribe(&["BNBBTC"]).await;
    peer.say(r#"{"e":"trade","s":"BNBBTC","p":"1"}"#).await;
    assert_eq!(running.error().await, "a trade without s or t cannot be told from another");
}

#[test]
fn a_symbol_in_small_letters_is_refused() {
    let fault = feed(&config("wss://example.com".into(), &["btcusdt"])).err().unwrap().to_string();
    assert!(
        fault.starts_with("ingest.binance.symbols: \"btcusdt\" must be in capitals"),
        "{fault}"
    );
}
