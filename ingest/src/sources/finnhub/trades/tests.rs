use serde_json::{Value, json};

use super::*;
use crate::{
    source::Source,
    sources::feed::stub::{Peer, Stub},
    testing::{Running, bodies, start},
};

/// As Finnhub documents it.
const TRADES: &str = r#"{"data":[{"p":7296.89,"s":"BINANCE:BTCUSDT","t":1575526691134,"v":0.011467}],"type":"trade"}"#;
const BOTH: &str = r#"{"data":[{"c":["1","8","24","12"],"p":122.1,"s":"TSLA","t":1672348887195,"v":1},{"c":["1","24","12"],"p":129.58,"s":"AAPL","t":1672348887666,"v":1}],"type":"trade"}"#;

fn config(stream_url: String, symbols: &[&str]) -> FinnhubConfig {
    let symbols = symbols.iter().map(|&name| name.to_owned()).collect();
    FinnhubConfig { stream_url, api_key: "k3y".into(), symbols, ..FinnhubConfig::default() }
}

fn request(kind: &str, symbol: &str) -> Value {
    json!({ "type": kind, "symbol": symbol })
}

async fn subscribe(symbols: &[&str]) -> (Running, Peer) {
    let stub = Stub::start().await;
    let running = start(feed(&config(stub.url("/"), symbols)).unwrap(), None);
    let mut peer = stub.accept().await;
    assert_eq!(peer.path, "/?token=k3y");
    for symbol in symbols {
        peer.expect(request("subscribe", symbol)).await;
    }
    (running, peer)
}

#[tokio::test]
async fn a_message_of_many_trades_is_one_payload_and_equal_ones_are_two() {
    let (mut running, mut peer) = subscribe(&["AAPL", "BINANCE:BTCUSDT", "TSLA"]).await;
    let mut ticks = Vec::new();
    for message in [TRADES, r#"{"type":"ping"}"#, BOTH, BOTH] {
        peer.say(message).await;
        if !message.contains("ping") {
            ticks.push(running.next().await);
        }
    }
    assert_eq!(bodies(&ticks), [TRADES, BOTH, BOTH]);
    assert!(ticks[0].id.starts_with("finnhub:BINANCE=3ABTCUSDT:h"), "{}", ticks[0].id);
    assert!(ticks[1].id.starts_with("finnhub:_:h"), "{}", ticks[1].id);
    assert_eq!(ticks[2].id, format!("{}:1", ticks[1].id));
    assert_eq!(ticks[1].symbol, None);
    assert_eq!(running.status.snapshot().last_error, None);
}

#[tokio::test]
async fn symbols_come_and_go_over_the_same_connection() {
    let (running, mut peer) = subscribe(&["AAPL"]).await;
    running.follow(&["MSFT", "TSLA"]);
    peer.expect(request("unsubscribe", "AAPL")).await;
    peer.expect(request("subscribe", "MSFT")).await;
    peer.expect(request("subscribe", "TSLA")).await;
}

#[tokio::test]
async fn an_error_over_a_symbol_harms_no_other_and_one_over_the_key_ends_the_session() {
    let (mut running, mut peer) = subscribe(&["AAPL", "FOO"]).await;
    peer.say(r#"{"msg":"Invalid symbol","type":"error"}"#).await;
    peer.say(BOTH).await;
    running.next().await;
    assert_eq!(running.error().await, "the provider answers: Invalid symbol");
    peer.say(r#"{"msg":"Invalid API key","type":"error"}"#).await;
    let (_, end) = running.rest().await;
    let end = end.unwrap_err();
    assert_eq!((end.kind, end.retry_after), (ErrorKind::Unauthorized, Some(AFTER_REFUSAL)));
}

#[tokio::test]
async fn a_trade_without_a_symbol_is_published_and_nonsense_is_told() {
    let (mut running, mut peer) = subscribe(&["AAPL"]).await;
    peer.say("<html>").await;
    let message = r#"{"data":[{"p":1},7],"type":"trade"}"#;
    peer.say(message).await;
    assert_eq!(bodies(&[running.next().await]), [message]);
    assert!(running.error().await.starts_with("a message that is none of the feed's"));
}

#[test]
fn the_key_is_not_shown() {
    let shown = feed(&config("wss://ws.finnhub.io".into(), &["AAPL"])).unwrap().url();
    assert_eq!(shown, "wss://ws.finnhub.io/?***");
}
