//! axum's `ws` with `tokio::sync::broadcast`, written as most people write it, with `TCP_NODELAY`:
//! a channel for each symbol, and for each client a task that sends what its channels give.

use std::sync::Arc;

use anyhow::Result;
use axum::{
    Router,
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::any,
    serve::ListenerExt,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{self, BoxStream},
};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::broadcast::{self, Receiver, Sender},
};

use super::{
    ANY, Listening, Scenario,
    feed::{BUFFER, Feed},
    handshake,
};

/// How far a client may stay behind: as far as in ours.
const CAPACITY: usize = 1_024;

type Topics = Arc<Vec<Sender<Utf8Bytes>>>;

#[derive(Deserialize)]
struct Asked {
    symbols: String,
}

/// Listens, and serves in the background.
pub(super) async fn start(scenario: Scenario) -> Result<()> {
    let topics: Topics =
        Arc::new((0..scenario.symbols()).map(|_| broadcast::channel(CAPACITY).0).collect());
    let (feed, clients) = (TcpListener::bind(ANY).await?, TcpListener::bind(ANY).await?);
    let addresses = Listening {
        feed: feed.local_addr()?.to_string(),
        clients: clients.local_addr()?.to_string(),
    };
    let router = Router::new().route("/ws", any(upgrade)).with_state(Arc::clone(&topics));
    let clients = clients.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(async move { axum::serve(clients, router).await });
    tokio::spawn(publish(feed, topics));
    addresses.say()
}

async fn publish(listener: TcpListener, topics: Topics) -> Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let (mut feed, mut buffer) = (Feed::default(), vec![0; BUFFER]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        feed.take(buffer.get(..count).unwrap_or_default(), |update| {
            let topic = topics.get(usize::from(update.symbol));
            if let (Some(topic), Ok(text)) = (topic, std::str::from_utf8(update.text)) {
                // An error means that nobody listens.
                let _ = topic.send(text.into());
            }
        });
    }
}

async fn upgrade(
    State(topics): State<Topics>,
    Query(asked): Query<Asked>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Ok(symbols) = handshake::symbols(&asked.symbols) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let topics = symbols.iter().filter_map(|symbol| topics.get(usize::from(*symbol)));
    let receivers = topics.map(Sender::subscribe).collect();
    upgrade.on_upgrade(|socket| serve(socket, receivers))
}

async fn serve(socket: WebSocket, receivers: Vec<Receiver<Utf8Bytes>>) {
    let (mut sink, mut incoming) = socket.split();
    let mut updates = updates(receivers);
    let sending = tokio::spawn(async move {
        while let Some(text) = updates.next().await {
            if sink.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(_)) = incoming.next().await {}
    sending.abort();
}

/// What comes from any of the channels; it ends where something was missed, which the client finds.
fn updates(mut receivers: Vec<Receiver<Utf8Bytes>>) -> BoxStream<'static, Utf8Bytes> {
    let next = async |mut receiver: Receiver<Utf8Bytes>| {
        let text = receiver.recv().await.ok()?;
        Some((text, receiver))
    };
    if receivers.len() == 1 {
        return stream::unfold(receivers.remove(0), next).boxed();
    }
    stream::select_all(receivers.into_iter().map(|receiver| stream::unfold(receiver, next).boxed()))
        .boxed()
}
