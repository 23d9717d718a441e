use schemas::http::SourceState;
use serde_json::json;

use super::*;
use crate::{
    config::KrakenConfig,
    source::ErrorKind,
    sources::{
        feed::stub::{Peer, Stub},
        kraken,
    },
    testing::{Running, start},
};

/// A feed whose connections follow one pair each.
fn feed(stub: &Stub, pairs: &[&str]) -> Feed {
    let symbols = pairs.iter().map(|&pair| pair.to_owned()).collect();
    let config = KrakenConfig { url: stub.url("/v2"), symbols, symbols_per_connection: 1 };
    let mut feed = kraken::feed(&config).unwrap();
    feed.patience.between = Duration::from_millis(10);
    feed
}

/// The next connection, which asks for this pair, and is told that it has it.
async fn accept(stub: &Stub, pair: &str) -> Peer {
    let mut peer = stub.accept().await;
    let asked: serde_json::Value =
        serde_json::from_str(peer.hear().await.to_text().unwrap()).unwrap();
    assert_eq!(
        (&asked["method"], &asked["params"]["symbol"]),
        (&json!("subscribe"), &json!([pair]))
    );
    let done = json!({
        "method": "subscribe",
        "success": true,
        "result": { "channel": "trade", "symbol": pair },
    });
    peer.say(done.to_string()).await;
    peer
}

async fn trade(peer: &mut Peer, pair: &str, number: u64) {
    let data = json!([{ "symbol": pair, "trade_id": number }]);
    peer.say(json!({ "channel": "trade", "type": "update", "data": data }).to_string()).await;
}

/// A feed of three pairs, and the provider's ends of its connections.
async fn three() -> (Running, [Peer; 3], Stub) {
    let stub = Stub::start().await;
    let running = start(feed(&stub, &["A/B", "C/D", "E/F"]), None);
    let peers =
        [accept(&stub, "A/B").await, accept(&stub, "C/D").await, accept(&stub, "E/F").await];
    (running, peers, stub)
}

#[tokio::test]
async fn the_symbols_are_spread_over_connections() {
    let (mut running, mut peers, _stub) = three().await;
    for (peer, pair) in peers.iter_mut().zip(["A/B", "C/D", "E/F"]) {
        trade(peer, pair, 7).await;
        assert_eq!(running.next().await.id, format!("kraken:{pair}:7"));
    }
    assert_eq!(running.status.snapshot().last_error, None);
}

#[tokio::test]
async fn a_connection_that_breaks_comes_again_and_takes_no_other_with_it() {
    let (mut running, [mut first, second, mut third], stub) = three().await;
    trade(&mut first, "A/B", 1).await;
    running.next().await;
    drop(second);
    running.error().await;
    assert_eq!(running.status.snapshot().state, SourceState::BackingOff);
    for (peer, pair) in [(&mut first, "A/B"), (&mut third, "E/F")] {
        trade(peer, pair, 2).await;
        assert_eq!(running.next().await.id, format!("kraken:{pair}:2"));
    }
    assert_eq!(running.status.snapshot().state, SourceState::BackingOff, "one is still missing");
    let mut second = accept(&stub, "C/D").await;
    trade(&mut second, "C/D", 3).await;
    assert_eq!(running.next().await.id, "kraken:C/D:3");
    assert_eq!(running.status.snapshot().state, SourceState::Running);
    trade(&mut first, "A/B", 3).await;
    assert_eq!(running.next().await.id, "kraken:A/B:3");
}

#[tokio::test]
async fn what_a_connection_missed_is_known_when_it_comes_again() {
    let (mut running, [_first, mut second, _third], stub) = three().await;
    trade(&mut second, "C/D", 1).await;
    running.next().await;
    drop(second);
    let mut second = accept(&stub, "C/D").await;
    trade(&mut second, "C/D", 4).await;
    running.next().await;
    let error = running.status.snapshot().last_error.unwrap();
    assert_eq!(error, "2 trades of C/D after 1 were missed");
}

#[tokio::test]
async fn a_symbol_that_comes_takes_the_connection_of_one_that_left() {
    let (mut running, [mut first, mut second, mut third], stub) = three().await;
    running.follow(&["A/B", "E/F"]);
    assert!(second.hear().await.is_close());
    running.follow(&["A/B", "E/F", "G/H", "I/J"]);
    let mut second = accept(&stub, "G/H").await;
    let mut fourth = accept(&stub, "I/J").await;
    let peers = [&mut first, &mut second, &mut third, &mut fourth];
    for (peer, pair) in peers.into_iter().zip(["A/B", "G/H", "E/F", "I/J"]) {
        trade(peer, pair, 7).await;
        assert_eq!(running.next().await.id, format!("kraken:{pair}:7"));
    }
    assert_eq!(running.status.snapshot().last_error, None);
}

#[tokio::test]
async fn a_provider_that_is_gone_ends_the_session() {
    let (running, peers, stub) = three().await;
    drop(stub);
    drop(peers);
    let (_, end) = running.rest().await;
    assert_eq!(end.unwrap_err().kind, ErrorKind::Connection);
}

#[tokio::test]
async fn a_symbol_that_is_refused_ends_only_its_own_connection() {
    let stub = Stub::start().await;
    let mut running = start(feed(&stub, &["A/B", "C/D"]), None);
    let mut first = stub.accept().await;
    first.hear().await;
    let refused = json!({
        "method": "subscribe", "success": false, "symbol": "A/B",
        "error": "Currency pair not supported A/B",
    });
    first.say(refused.to_string()).await;
    let mut second = accept(&stub, "C/D").await;
    trade(&mut second, "C/D", 1).await;
    assert_eq!(running.next().await.id, "kraken:C/D:1");
}

#[test]
fn more_connections_than_there_may_be_are_refused() {
    let symbols: Vec<_> = (0..65).map(|n| format!("A{n}/B")).collect();
    let config = |symbols_per_connection| KrakenConfig {
        symbols: symbols.clone(),
        symbols_per_connection,
        ..KrakenConfig::default()
    };
    let fault = kraken::feed(&config(1)).map(drop).unwrap_err().to_string();
    assert_eq!(
        fault,
        "ingest.kraken.symbols_per_connection: 65 symbols would take 65 connections, and there are \
         at most 64"
    );
    assert_eq!(kraken::feed(&config(2)).unwrap().symbols_per_connection, 2);
    assert_eq!(kraken::feed(&config(0)).unwrap().symbols_per_connection, usize::MAX);
}
