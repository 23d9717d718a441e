//! A WebSocket client of the kind that users write: it subscribes, and when the connection breaks
//! it comes back with the last sequence it has seen.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use schemas::{ClientMessage, ServerMessage, Subscribe};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message},
};

use crate::lizards::Registry;

/// One update as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) symbol: String,
    pub(crate) price: String,
    pub(crate) size: String,
    pub(crate) seq: u64,
    pub(crate) prev: u64,
}

/// A client that follows symbols from the first tick on, through every break.
pub(crate) struct Subscriber {
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Follows `symbols` from the beginning of the stream.
    pub(crate) fn follow(registry: Arc<Registry>, symbols: &[&str]) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let symbols = symbols.iter().map(ToString::to_string).collect();
        let task = tokio::spawn(follow(registry, symbols, Arc::clone(&received)));
        Self { received, task }
    }

    /// What has come so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic holds it").clone()
    }

    /// How much has come so far.
    pub(crate) fn count(&self) -> usize {
        self.received.lock().expect("no panic holds it").len()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    registry: Arc<Registry>,
    symbols: Vec<String>,
    received: Arc<Mutex<Vec<Received>>>,
) {
    loop {
        let last =
            received.lock().expect("no panic holds it").last().map_or(0, |r: &Received| r.seq);
        if let Ok(mut socket) = connect(&registry).await {
            let subscribe = Subscribe {
                symbols: symbols.clone(),
                from_seq: Some(last),
                ..Subscribe::default()
            };
            let _ = send(&mut socket, &ClientMessage::Subscribe(subscribe)).await;
            // An error is a break: come back.
            let _ = receive(&mut socket, &received).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects to the newest gateway.
pub(crate) async fn connect(registry: &Registry) -> Result<Socket, tungstenite::Error> {
    let url = format!("ws://{}/ws", registry.address("gateway").await);
    Ok(connect_async(url).await?.0)
}

/// Sends a message of the protocol.
pub(crate) async fn send(
    socket: &mut Socket,
    message: &ClientMessage,
) -> Result<(), tungstenite::Error> {
    let text = serde_json::to_string(message).expect("a message of ours is JSON");
    socket.send(Message::text(text)).await
}

async fn receive(
    socket: &mut Socket,
    received: &Mutex<Vec<Received>>,
) -> Result<(), tungstenite::Error> {
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        let message = ServerMessage::from_json(&text).expect("a message of the protocol");
        let ServerMessage::PriceUpdate { data, .. } = message else { continue };
        let mut received = received.lock().expect("no panic holds it");
        received.extend(data.into_iter().map(|(symbol, update)| Received {
            symbol,
            price: update.price.get().to_owned(),
            size: update.size.map(|size| size.get().to_owned()).unwrap_or_default(),
            seq: update.seq,
            prev: update.prev,
        }));
    }
    Ok(())
}

/// The next message that `wanted` takes.
///
/// # Panics
/// When none comes within a minute.
pub(crate) async fn next<T>(socket: &mut Socket, wanted: impl Fn(ServerMessage) -> Option<T>) -> T {
    let search = async {
        loop {
            let message = socket.next().await.expect("the connection is open").expect("a message");
            let Message::Text(text) = message else { continue };
            let message = ServerMessage::from_json(&text).expect("a message of the protocol");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), search).await.expect("a message in time")
}
