//! Real clients over real sockets; only the broker is in memory.

mod admission;
mod alerts;
pub(crate) mod broker;
mod candles;
mod deflated;
mod formats;
mod lifecycle;
mod live;
mod replay;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use schemas::{ClientError, Closing, ErrorCode, ServerMessage};
use service::Health;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest, handshake::client::Response,
        protocol::CloseFrame,
    },
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Connections, Server, router};
use crate::{
    access::Access,
    alerts::AlertHub,
    candles::CandleHub,
    config::WebSocketConfig,
    events,
    hub::{self, Hub, Readers},
};
use broker::{MemoryBroker, Shared};

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running server.
pub(crate) struct Fixture {
    pub(crate) broker: Arc<MemoryBroker>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) candles: Arc<CandleHub>,
    pub(crate) alerts: Arc<AlertHub>,
    pub(crate) access: Arc<Access>,
    pub(crate) connections: Connections,
    pub(crate) shutdown: CancellationToken,
    pub(crate) address: String,
    _stop: DropGuard,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(WebSocketConfig::default(), Arc::default()).await
    }

    pub(crate) async fn with(config: WebSocketConfig, broker: Arc<MemoryBroker>) -> Self {
        let (hub, connections, shutdown) = (
            Arc::new(Hub::new(2, config.coalesce(), config.io_uring)),
            Connections::default(),
            CancellationToken::new(),
        );
        let (candles, alerts) = (Arc::new(CandleHub::default()), Arc::new(AlertHub::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let access = Arc::new(Access::new(&config));
        let server = Arc::new(Server {
            hub: Arc::clone(&hub),
            candles: Arc::clone(&candles),
            alerts: Arc::clone(&alerts),
            readers: Arc::new(Readers::new(Arc::new(Shared(Arc::clone(&broker))))),
            access: Arc::clone(&access),
            config,
            connections: connections.clone(),
            shutdown: shutdown.clone(),
        });
        let app = router(Arc::clone(&server)).merge(events::router(server));
        tokio::spawn(service::serve(listener, app, PATIENCE, shutdown.clone()));
        tokio::spawn(Arc::clone(&hub).flush(shutdown.clone()));
        tokio::spawn(hub::follow_ticks(
            Arc::clone(&hub),
            Arc::new(Shared(Arc::clone(&broker))),
            Health::default().check("ticks"),
            shutdown.clone(),
        ));
        let _stop = shutdown.clone().drop_guard();
        let fixture =
            Self { broker, hub, candles, alerts, access, connections, shutdown, address, _stop };
        fixture.until(|hub| hub.is_ready()).await;
        fixture
    }

    /// Waits until the hub is as it should be.
    async fn until(&self, condition: impl Fn(&Hub) -> bool) {
        let reached = async {
            while !condition(&self.hub) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("the hub came to it");
    }

    /// Publishes a tick, and waits until the hub has it.
    pub(crate) async fn publish(&self, symbol: &str, price: &str) -> u64 {
        let sequence = self.broker.publish(symbol, price);
        self.until(|hub| hub.last_sequence() >= sequence).await;
        sequence
    }

    async fn client(&self, query: &str) -> Client {
        self.connect(query, &[]).await.unwrap().0
    }

    /// A client that sends these headers too, and what it is answered.
    async fn connect(
        &self,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Client, Response), Error> {
        let mut request = format!("ws://{}/ws{query}", self.address).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, response) = connect_async(request).await?;
        Ok((Client(socket), response))
    }
}

/// A client as anybody would write one.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What a test looks at in a price.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Price {
    symbol: String,
    price: String,
    seq: u64,
    prev: u64,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next text, or the close.
    async fn receive(&mut self) -> Result<ServerMessage, Option<CloseFrame>> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Ok(ServerMessage::from_json(&text).unwrap());
                    }
                    Some(Ok(Message::Close(frame))) => return Err(frame),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        timeout(PATIENCE, next).await.expect("the server says something")
    }

    async fn price(&mut self) -> Price {
        match self.receive().await {
            Ok(ServerMessage::PriceUpdate { data, .. }) => {
                assert_eq!(data.len(), 1);
                let (symbol, update) = data.into_iter().next().unwrap();
                let price = update.price.get().to_owned();
                Price { symbol, price, seq: update.seq, prev: update.prev }
            }
            other => panic!("no price but {other:?}"),
        }
    }

    async fn sequences(&mut self, count: usize) -> Vec<u64> {
        let mut sequences = Vec::new();
        for _ in 0..count {
            sequences.push(self.price().await.seq);
        }
        sequences
    }

    async fn subscribed(&mut self) -> Vec<String> {
        match self.receive().await {
            Ok(ServerMessage::Subscribed(subscribed)) => subscribed.symbols,
            other => panic!("not subscribed but {other:?}"),
        }
    }

    async fn error(&mut self) -> ClientError {
        match self.receive().await {
            Ok(ServerMessage::Error(error)) => error,
            other => panic!("no error but {other:?}"),
        }
    }

    /// The close code and what was said before it; prices in between are added to `prices`.
    async fn closed(&mut self, prices: &mut Vec<u64>) -> (Closing, u16) {
        let closing = loop {
            match self.receive().await {
                Ok(ServerMessage::Closing(closing)) => break closing,
                Ok(ServerMessage::PriceUpdate { data, .. }) => {
                    prices.extend(data.values().map(|update| update.seq));
                }
                Ok(_) => {}
                Err(frame) => panic!("closed without a word: {frame:?}"),
            }
        };
        let frame = self.receive().await.unwrap_err().expect("a close frame");
        (closing, frame.code.into())
    }

    /// Nothing but pings comes for a while.
    async fn is_quiet(&mut self) {
        let said = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Ping(_))) => {}
                    other => return other,
                }
            }
        };
        let said = timeout(Duration::from_millis(100), said).await;
        assert!(said.is_err(), "{said:?}");
    }
}
