//! Each kind of live source, from the provider's interface to a subscriber. The providers are
//! stubs on this machine that answer as the providers document.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        Query,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    routing::get,
};
use schemas::{ClientMessage, ServerMessage, Subscribe, Update};
use tokio::net::TcpListener;

use crate::{
    lizards::{Installation, Registry},
    servers::NatsServer,
    subscriber::{connect, next, send},
};

/// Serves a stub provider; gives its address.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Runs the pipeline with these settings and gives the first update of a symbol.
async fn first_update(settings: &[(&str, String)], symbol: &str) -> Update {
    let [update] = first_updates(settings, [symbol]).await;
    update
}

/// As `first_update`, of several symbols.
pub(crate) async fn first_updates<const N: usize>(
    settings: &[(&str, String)],
    symbols: [&str; N],
) -> [Update; N] {
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    for (key, value) in settings {
        installation.set(key, value);
    }
    let registry = Registry::at(&nats.url()).await;
    let _processes =
        ["ingest", "process", "provide", "gateway"].map(|role| installation.role(role));
    registry.address("provide").await;
    let mut socket = connect(&registry).await.expect("the gateway tunnels");
    // All symbols: a source that reads pages cannot say beforehand which there are.
    let subscribe = Subscribe { symbols: vec!["*".into()], ..Subscribe::default() };
    send(&mut socket, &ClientMessage::Subscribe(subscribe)).await.expect("open");
    let mut found = BTreeMap::new();
    while !symbols.iter().all(|symbol| found.contains_key(*symbol)) {
        let updates = next(&mut socket, |message| match message {
            ServerMessage::PriceUpdate { data, .. } => Some(data),
            _ => None,
        });
        for (symbol, update) in updates.await {
            found.entry(symbol).or_insert(update);
        }
    }
    symbols.map(|symbol| found.remove(symbol).expect("it was found"))
}

/// <https://docs.cdp.coinbase.com/exchange/websocket-feed/channels>
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_feed() {
    async fn feed(mut socket: WebSocket) {
        let Some(Ok(Message::Text(subscribe))) = socket.recv().await else { return };
        assert!(subscribe.contains("\"matches\"") && subscribe.contains("BTC-USD"), "{subscribe}");
        for message in [
            r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}"#,
            r#"{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2024-11-07T08:19:28.464459Z"}"#,
            r#"{"type":"match","trade_id":10,"sequence":50,"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","taker_order_id":"132fb6ae-456b-4654-b4e0-d681ac05cea1","time":"2024-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512000","price":"68400.2300","side":"sell"}"#,
        ] {
            if socket.send(Message::text(message)).await.is_err() {
                return;
            }
        }
        // Open and quiet, but for heartbeats, as a market can be.
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let heartbeat = r#"{"type":"heartbeat","sequence":91,"last_trade_id":20,"product_id":"BTC-USD","time":"2024-11-07T08:19:29.464459Z"}"#;
            if socket.send(Message::text(heartbeat)).await.is_err() {
                return;
            }
        }
    }
    let stub = serve(
        Router::new().route("/", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(feed))),
    )
    .await;
    let update = first_update(
        &[
            ("ingest.sources", "coinbase".into()),
            ("ingest.coinbase.url", format!("ws://{stub}/")),
            ("ingest.coinbase.symbols", "BTC-USD".into()),
        ],
        "BTC-USD",
    )
    .await;
    assert_eq!(update.price.get(), "68400.2300");
    assert_eq!(update.source.as_str(), "coinbase");
    assert_eq!(update.timestamp.to_string(), "2024-11-07T08:19:27.028459Z");
}

/// <https://docs.kraken.com/api/docs/websocket-v2/trade>
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_feed_whose_provider_restarts() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

    async fn feed(mut socket: WebSocket) {
        let Some(Ok(Message::Text(subscribe))) = socket.recv().await else { return };
        assert!(
            subscribe.contains("\"subscribe\"") && subscribe.contains("BTC/USD"),
            "{subscribe}"
        );
        let answer = r#"{"method":"subscribe","req_id":1,"result":{"channel":"trade","snapshot":false,"symbol":"BTC/USD"},"success":true,"time_in":"2024-11-07T08:19:27.028459Z","time_out":"2024-11-07T08:19:27.028460Z"}"#;
        if socket.send(Message::text(answer)).await.is_err() {
            return;
        }
        // The first connection is cut before it has said anything; the next is asked again.
        if CONNECTIONS.fetch_add(1, Ordering::SeqCst) == 0 {
            return;
        }
        let trades = r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":68400.2300,"qty":0.5,"ord_type":"market","trade_id":7,"timestamp":"2024-11-07T08:19:27.028459Z"}]}"#;
        let _ = socket.send(Message::text(trades)).await;
        while socket.recv().await.is_some() {}
    }
    let stub = serve(
        Router::new().route("/v2", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(feed))),
    )
    .await;
    let update = first_update(
        &[
            ("ingest.sources", "kraken".into()),
            ("ingest.kraken.url", format!("ws://{stub}/v2")),
            ("ingest.kraken.symbols", "BTC/USD".into()),
        ],
        "BTC/USD",
    )
    .await;
    assert_eq!(update.price.get(), "68400.2300");
    assert_eq!(update.source.as_str(), "kraken");
    assert!(CONNECTIONS.load(Ordering::SeqCst) >= 2);
}

/// <https://www.alphavantage.co/documentation/#latestprice>
#[tokio::test(flavor = "multi_thread")]
async fn a_polled_interface() {
    #[derive(serde::Deserialize)]
    struct Asked {
        function: String,
        symbol: String,
        apikey: String,
    }
    let quote = async |Query(asked): Query<Asked>| {
        assert_eq!((asked.function.as_str(), asked.apikey.as_str()), ("GLOBAL_QUOTE", "demo-key"));
        format!(
            r#"{{"Global Quote":{{"01. symbol":"{}","02. open":"217.0","03. high":"219.5","04. low":"216.8","05. price":"218.3100","06. volume":"3443000","07. latest trading day":"2024-11-07","08. previous close":"217.5","09. change":"0.81","10. change percent":"0.3724%"}}}}"#,
            asked.symbol
        )
    };
    let stub = serve(Router::new().route("/query", get(quote))).await;
    let update = first_update(
        &[
            ("ingest.sources", "alphavantage".into()),
            ("ingest.alphavantage.url", format!("http://{stub}/query")),
            ("ingest.alphavantage.api_key", "demo-key".into()),
            ("ingest.alphavantage.symbols", "IBM".into()),
        ],
        "IBM",
    )
    .await;
    assert_eq!(update.price.get(), "218.3100");
    assert_eq!(update.source.as_str(), "alphavantage");
}
