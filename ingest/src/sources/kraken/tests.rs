use serde_json::{Value, json};

use super::*;
use crate::{
    sources::feed::stub::{Peer, Stub},
    testing::{Running, bodies, start},
};

/// As Kraken greets.
const STATUS: &str = r#"{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":13834774380200032777}]}"#;

fn update(trades: &[(&str, u64)]) -> String {
    let data: Vec<String> = trades
        .iter()
        .map(|(symbol, id)| {
            format!(
                r#"{{"symbol":"{symbol}","side":"sell","price":0.511700,"qty":40.0,"ord_type":"market","trade_id":{id},"timestamp":"2023-09-25T07:49:37.708706Z"}}"#
            )
        })
        .collect();
    format!(r#"{{"channel":"trade","type":"update","data":[{}]}}"#, data.join(","))
}

fn request(method: &str, symbols: &[&str], number: u64) -> Value {
    let mut params = json!({ "channel": "trade", "symbol": symbols });
    if method == "subscribe" {
        params["snapshot"] = false.into();
    }
    json!({ "method": method, "params": params, "req_id": number })
}

fn done(method: &str, symbol: &str) -> String {
    json!({
        "method": method, "req_id": 1, "success": true,
        "result": { "channel": "trade", "snapshot": false, "symbol": symbol },
        "time_in": "2023-09-25T09:21:10.428340Z", "time_out": "2023-09-25T09:21:10.428375Z",
    })
    .to_string()
}

fn refused(symbol: &str) -> String {
    json!({
        "error": format!("Currency pair not supported {symbol}"), "method": "subscribe",
        "success": false, "symbol": symbol,
        "time_in": "2023-09-25T09:21:10.428340Z", "time_out": "2023-09-25T09:21:10.428375Z",
    })
    .to_string()
}

async fn subscribe(symbols: &[&str], resume: Option<&str>) -> (Running, Peer) {
    let stub = Stub::start().await;
    let names = symbols.iter().map(|&name| name.to_owned()).collect();
    let running = start(
        feed(&KrakenConfig { url: stub.url("/v2"), symbols: names, ..KrakenConfig::default() })
            .unwrap(),
        resume,
    );
    let mut peer = stub.accept().await;
    assert_eq!(peer.path, "/v2");
    peer.say(STATUS).await;
    peer.expect(request("subscribe", symbols, 1)).await;
    (running, peer)
}

#[tokio::test]
async fn a_message_of_many_trades_is_one_payload() {
    let (mut running, mut peer) = subscribe(&["BTC/USD", "ETH/USD"], None).await;
    peer.say(done("subscribe", "BTC/USD")).await;
    peer.say(done("subscribe", "ETH/USD")).await;
    peer.say(r#"{"channel":"heartbeat"}"#).await;
    let messages = [
        update(&[("BTC/USD", 7)]),
        update(&[("BTC/USD", 8), ("BTC/USD", 9)]),
        update(&[("BTC/USD", 10), ("ETH/USD", 3)]),
    ];
    let mut ticks = Vec::new();
    for message in &messages {
        peer.say(message).await;
        ticks.push(running.next().await);
    }
    assert_eq!(bodies(&ticks), messages);
    let symbols: Vec<_> =
        ticks.iter().map(|tick| tick.symbol.as_ref().map(|symbol| symbol.as_str())).collect();
    assert_eq!(symbols, [Some("BTC/USD"), Some("BTC/USD"), None]);
    assert_eq!(ticks[0].id, "kraken:BTC/USD:7");
    assert!(ticks[1].id.starts_with("kraken:BTC/USD:9:h"), "{}", ticks[1].id);
    assert!(ticks[2].id.starts_with("kraken:_:h"), "{}", ticks[2].id);
    assert_eq!(running.status.snapshot().last_error, None);
}

#[tokio::test]
async fn trades_that_were_missed_are_told_within_and_between_sessions() {
    let (mut running, mut peer) = subscribe(&["BTC/USD"], Some("kraken:BTC/USD:5")).await;
    peer.say(done("subscribe", "BTC/USD")).await;
    peer.say(update(&[("BTC/USD", 8)])).await;
    running.next().await;
    assert_eq!(running.error().await, "2 trades of BTC/USD after 5 were missed");
    peer.say(update(&[("BTC/USD", 9), ("BTC/USD", 11)])).await;
    running.next().await;
    assert_eq!(running.error().await, "1 trades of BTC/USD after 9 were missed");
}

#[tokio::test]
async fn a_pair_that_is_not_supported_is_told_and_takes_no_other_with_it() {
    let (mut running, mut peer) = subscribe(&["BTC/USD", "FOO/BAR"], None).await;
    peer.say(done("subscribe", "BTC/USD")).await;
    peer.say(refused("FOO/BAR")).await;
    let told = "FOO/BAR is not followed: Currency pair not supported FOO/BAR";
    assert_eq!(running.error().await, told);
    peer.say(update(&[("BTC/USD", 7)])).await;
    running.next().await;
    running.follow(&["ETH/USD", "FOO/BAR"]);
    peer.expect(request("unsubscribe", &["BTC/USD"], 2)).await;
    peer.say(done("unsubscribe", "BTC/USD")).await;
    peer.expect(request("subscribe", &["ETH/USD"], 3)).await;
    peer.say(done("subscribe", "ETH/USD")).await;
}

#[tokio::test]
async fn a_feed_whose_every_pair_is_refused_ends() {
    let (running, mut peer) = subscribe(&["FOO/BAR"], None).await;
    peer.say(refused("FOO/BAR")).await;
    let (_, end) = running.rest().await;
    let end = end.unwrap_err();
    assert_eq!(end.kind, ErrorKind::Provider);
    assert_eq!(end.message, "the provider refuses every symbol that is followed");
}

#[tokio::test]
async fn a_trade_that_cannot_be_named_is_published_with_those_beside_it() {
    let (mut running, mut peer) = subscribe(&["BTC/USD"], None).await;
    peer.say(done("subscribe", "BTC/USD")).await;
    let message = update(&[("BTC/USD", 7), ("BTC/USD", 8)]).replace(":8,", ":\"eight\",");
    peer.say(&message).await;
    let tick = running.next().await;
    assert_eq!(bodies(std::slice::from_ref(&tick)), [message]);
    assert_eq!(tick.symbol, None);
}
