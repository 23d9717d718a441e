//! Coinbase Exchange's WebSocket feed: every trade of the products that are followed.
//!
//! See "WebSocket Channels" (`matches`, `heartbeat`) in
//! <https://docs.cdp.coinbase.com/exchange/websocket-feed/channels>. The feed needs no account.

use std::{collections::HashMap, fmt::Display, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use reqwest::Url;
use schemas::{Format, RawTick, Source as Name, Symbol};
use serde::Deserialize;
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, Message, error::CapacityError, protocol::WebSocketConfig},
};

use crate::{
    config::{self, CoinbaseConfig, ConfigError},
    outlet::{MAX_PAYLOAD_BYTES, Outlet},
    source::{ErrorKind, FetchError, Session, Source},
};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Heartbeats come every second: a feed this silent is dead, whatever TCP believes.
const SILENCE: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The feed of trades.
pub(super) struct Coinbase {
    name: Name,
    url: Url,
    products: Vec<Symbol>,
    silence: Duration,
    /// The newest trade of each product that was handed over, over all sessions.
    newest: Mutex<HashMap<Symbol, u64>>,
}

/// What a message must say to be understood; the rest of it is for its reader.
#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    product_id: Option<Symbol>,
    #[serde(default)]
    trade_id: Option<u64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl Coinbase {
    pub(super) fn new(config: &CoinbaseConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            name: super::source_name("coinbase"),
            url: config::url("coinbase.url", &config.url, &["ws", "wss"])?,
            products: config::symbols("coinbase.symbols", &config.symbols)?,
            silence: SILENCE,
            newest: Mutex::default(),
        })
    }

    async fn connect(&self) -> Result<Socket, FetchError> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_PAYLOAD_BYTES))
            .max_frame_size(Some(MAX_PAYLOAD_BYTES));
        let connecting = connect_async_with_config(self.url.as_str(), Some(limits), true);
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => Ok(connected.map_err(fault)?.0),
            Err(_) => Err(FetchError::new(ErrorKind::Timeout, "no connection within 10 s")),
        }
    }

    fn subscription(&self) -> Message {
        let subscription = serde_json::json!({
            "type": "subscribe",
            "product_ids": self.products,
            "channels": ["matches", "heartbeat"],
        });
        Message::text(subscription.to_string())
    }

    /// What is known of the trades before this session. Where another instance has published
    /// since, that is only the newest one.
    async fn go_on(&self, resume: Option<&str>) {
        let stored = self.products.iter().find_map(|product| {
            let trade = resume?.strip_prefix(&id(product, ""))?.parse().ok()?;
            Some((product.clone(), trade))
        });
        let mut newest = self.newest.lock().await;
        if stored.as_ref().is_none_or(|(product, trade)| newest.get(product) != Some(trade)) {
            newest.clear();
            newest.extend(stored);
        }
    }

    /// Publishes a message if it is a trade. After a reconnection, the last trade before it comes
    /// first (`last_match`): it tells whether any were missed, and may be one that we have.
    async fn take(&self, body: Bytes, outlet: &mut Outlet) -> Result<(), FetchError> {
        let received_at = Timestamp::now();
        let envelope: Envelope = match serde_json::from_slice(&body) {
            Ok(envelope) => envelope,
            Err(error) => {
                let fault = format!("a message that is none of the feed's: {error}");
                outlet.failed(&FetchError::new(ErrorKind::Malformed, fault));
                return Ok(());
            }
        };
        match envelope.r#type.as_str() {
            "match" | "last_match" => {}
            "error" => return Err(refusal(envelope)),
            // Subscriptions, heartbeats, and whatever else may come to be.
            _ => {
                outlet.alive();
                return Ok(());
            }
        }
        let (Some(symbol), Some(trade)) = (envelope.product_id, envelope.trade_id) else {
            let fault = "a match without product_id or trade_id cannot be told from another";
            outlet.failed(&FetchError::new(ErrorKind::Malformed, fault));
            return Ok(());
        };
        let newest = self.newest.lock().await.get(&symbol).copied();
        match newest.map(|newest| (newest, trade.saturating_sub(newest))) {
            Some((_, 0)) if envelope.r#type == "last_match" => {
                outlet.unchanged();
                return Ok(());
            }
            Some((newest, ahead @ 2..)) => {
                let fault = format!("{} trades of {symbol} after {newest} were missed", ahead - 1);
                outlet.failed(&FetchError::new(ErrorKind::Missed, fault));
            }
            _ => {}
        }
        let product = symbol.clone();
        let tick = RawTick {
            id: id(&symbol, trade),
            source: self.name.clone(),
            symbol: Some(symbol),
            received_at,
            content_type: "application/json".to_owned(),
            format: Format::CoinbaseMatch,
            columns: None,
            body,
        };
        outlet.send(tick).await;
        if self.products.contains(&product) {
            self.newest.lock().await.insert(product, trade);
        }
        Ok(())
    }
}

/// The message id of a trade: Coinbase numbers those of a product without a gap.
fn id(product: &Symbol, trade: impl Display) -> String {
    format!("coinbase:{}:{trade}", product.token())
}

#[async_trait]
impl Source for Coinbase {
    fn name(&self) -> &Name {
        &self.name
    }

    fn url(&self) -> String {
        config::shown(&self.url)
    }

    fn symbols(&self) -> Vec<Symbol> {
        self.products.clone()
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { resume, mut outlet, .. } = session;
        self.go_on(resume.as_deref()).await;
        let mut socket = self.connect().await?;
        socket.send(self.subscription()).await.map_err(fault)?;
        loop {
            let Ok(message) = timeout(self.silence, socket.next()).await else {
                let fault = format!("nothing was heard for {:?}", self.silence);
                return Err(FetchError::new(ErrorKind::Timeout, fault));
            };
            match message.transpose().map_err(fault)? {
                Some(Message::Text(text)) => self.take(text.into(), &mut outlet).await?,
                Some(Message::Binary(body)) => self.take(body, &mut outlet).await?,
                Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Some(Message::Close(_)) | None => {
                    let fault = "the provider closed the connection";
                    return Err(FetchError::new(ErrorKind::Connection, fault));
                }
            }
        }
    }
}

fn refusal(envelope: Envelope) -> FetchError {
    let words = [envelope.message, envelope.reason].into_iter().flatten();
    let words = words.collect::<Vec<_>>().join(": ");
    FetchError::new(ErrorKind::Provider, format!("the provider answers: {words}"))
}

fn fault(error: tungstenite::Error) -> FetchError {
    let kind = match &error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => ErrorKind::TooLarge,
        tungstenite::Error::Http(_) => ErrorKind::Provider,
        _ => ErrorKind::Connection,
    };
    FetchError::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;

    use super::*;
    use crate::testing::{Running, bodies, start};

    const SUBSCRIPTIONS: &str = r#"{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]},{"name":"heartbeat","product_ids":["BTC-USD"]}]}"#;
    const HEARTBEAT: &str = r#"{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}"#;

    fn trade(kind: &str, id: u64) -> String {
        format!(
            r#"{{"type":"{kind}", "trade_id":{id},"sequence":50,"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}}"#
        )
    }

    /// A feed that takes the subscription, says what it is told to, and then ends as told.
    async fn feed(messages: Vec<Message>, then: End) -> Running {
        resumed_feed(messages, then, None).await
    }

    async fn resumed_feed(messages: Vec<Message>, then: End, resume: Option<&str>) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut socket = accept_async(listener.accept().await.unwrap().0).await.unwrap();
            let subscription = socket.next().await.unwrap().unwrap();
            let subscription: serde_json::Value =
                serde_json::from_str(subscription.to_text().unwrap()).unwrap();
            let expected = serde_json::json!({
                "type": "subscribe",
                "product_ids": ["BTC-USD"],
                "channels": ["matches", "heartbeat"],
            });
            assert_eq!(subscription, expected);
            for message in messages {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            match then {
                End::Close => socket.close(None).await.unwrap(),
                End::Cut => drop(socket),
                End::Silence => std::future::pending().await,
            }
        });
        let config = CoinbaseConfig { url, symbols: vec!["BTC-USD".into()] };
        let silence = Duration::from_millis(200);
        start(Coinbase { silence, ..Coinbase::new(&config).unwrap() }, resume)
    }

    enum End {
        Close,
        Cut,
        Silence,
    }

    #[tokio::test]
    async fn trades_are_published_byte_for_byte_and_the_rest_is_not() {
        let messages = [
            SUBSCRIPTIONS.into(),
            trade("last_match", 20),
            HEARTBEAT.into(),
            trade("match", 21),
            r#"{"type":"status","products":[]}"#.into(),
            trade("match", 22),
        ];
        let running = feed(messages.map(Message::text).into(), End::Close).await;
        let (ticks, end) = running.rest().await;
        let expected = [trade("last_match", 20), trade("match", 21), trade("match", 22)];
        assert_eq!(bodies(&ticks), expected);
        let ids: Vec<_> = ticks.iter().map(|tick| tick.id.as_str()).collect();
        assert_eq!(ids, ["coinbase:BTC-USD:20", "coinbase:BTC-USD:21", "coinbase:BTC-USD:22"]);
        assert_eq!(ticks[0].symbol, Some(Symbol::new("BTC-USD").unwrap()));
        assert_eq!(end.unwrap_err().to_string(), "the provider closed the connection");
    }

    #[tokio::test]
    async fn what_is_stored_is_not_published_again_and_what_was_missed_is_told() {
        let messages = [trade("last_match", 20), trade("match", 21), trade("match", 24)];
        let messages = messages.map(Message::text).to_vec();
        let resume = Some("coinbase:BTC-USD:20");
        let running = resumed_feed(messages.clone(), End::Close, resume).await;
        let status = std::sync::Arc::clone(&running.status);
        let (ticks, _) = running.rest().await;
        assert_eq!(bodies(&ticks), [trade("match", 21), trade("match", 24)]);
        let told = || status.snapshot().last_error.unwrap();
        assert_eq!(told(), "2 trades of BTC-USD after 21 were missed");

        let running = resumed_feed(messages, End::Close, Some("coinbase:BTC-USD:10")).await;
        let (ticks, _) = running.rest().await;
        assert_eq!(ticks.len(), 3, "a last trade that is new is published");
    }

    #[tokio::test]
    async fn a_session_remembers_the_one_before() {
        let config = CoinbaseConfig { symbols: vec!["A".into(), "B".into()], ..Default::default() };
        let coinbase = Coinbase::new(&config).unwrap();
        let [a, b] = ["A", "B"].map(|name| Symbol::new(name).unwrap());
        coinbase.newest.lock().await.extend([(a.clone(), 7), (b.clone(), 9)]);
        coinbase.go_on(Some("coinbase:B:9")).await;
        assert_eq!(coinbase.newest.lock().await.len(), 2);
        coinbase.go_on(Some("coinbase:A:8")).await;
        assert_eq!(*coinbase.newest.lock().await, [(a, 8)].into());
        coinbase.go_on(None).await;
        assert!(coinbase.newest.lock().await.is_empty());
    }

    #[tokio::test]
    async fn every_end_of_a_feed_is_told() {
        let error = r#"{"type":"error","message":"Failed to subscribe","reason":"BTC-USD is not a valid product"}"#;
        for (message, then, kind) in [
            (Message::text(error), End::Silence, ErrorKind::Provider),
            (Message::text(HEARTBEAT), End::Silence, ErrorKind::Timeout),
            (Message::text(HEARTBEAT), End::Cut, ErrorKind::Connection),
            (Message::text("x".repeat(600 * 1024)), End::Silence, ErrorKind::TooLarge),
        ] {
            let (ticks, end) = feed(vec![message], then).await.rest().await;
            assert!(ticks.is_empty());
            let end = end.unwrap_err();
            assert_eq!(end.kind, kind, "{end}");
        }
    }

    #[tokio::test]
    async fn a_message_that_means_nothing_harms_no_other() {
        let messages = ["nonsense", r#"{"type":"match","price":"1"}"#, &trade("match", 7)];
        let running = feed(messages.map(Message::text).into(), End::Close).await;
        let status = std::sync::Arc::clone(&running.status);
        let (ticks, _) = running.rest().await;
        assert_eq!(bodies(&ticks), [trade("match", 7)]);
        let error = status.snapshot().last_error.unwrap();
        assert_eq!(error, "a match without product_id or trade_id cannot be told from another");
    }

    #[tokio::test]
    async fn a_server_that_is_no_feed_is_told() {
        let server = crate::sources::stub::serve(|_, _| async { Default::default() }).await;
        let url = server.url("/").replace("http", "ws");
        let config = CoinbaseConfig { url, symbols: vec!["BTC-USD".into()] };
        let (_, end) = start(Coinbase::new(&config).unwrap(), None).rest().await;
        assert_eq!(end.unwrap_err().kind, ErrorKind::Provider);
    }
}
