//! A provider in the test's own process, over a real WebSocket. The test says what it says.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::{HeaderName, HeaderValue},
        protocol::CloseFrame,
    },
};

/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the provider listens.
pub(in crate::sources) struct Stub {
    listener: TcpListener,
}

/// The provider's end of a connection.
pub(in crate::sources) struct Peer {
    pub(in crate::sources) socket: WebSocketStream<TcpStream>,
    /// The path and the query of the handshake.
    pub(in crate::sources) path: String,
    /// Its headers.
    pub(in crate::sources) headers: BTreeMap<String, String>,
}

impl Stub {
    pub(in crate::sources) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(in crate::sources) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.listener.local_addr().unwrap())
    }

    /// The next TCP connection, before any handshake.
    pub(in crate::sources) async fn tcp(&self) -> TcpStream {
        timeout(PATIENCE, self.listener.accept()).await.expect("a connection in time").unwrap().0
    }

    /// The next connection.
    pub(in crate::sources) async fn accept(&self) -> Peer {
        let (mut path, mut headers) = (String::new(), BTreeMap::new());
        // The error is as large as tungstenite wants it.
        #[expect(clippy::result_large_err)]
        let note = |request: &Request, response: Response| {
            path = request.uri().to_string();
            let text = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.to_string(), value.to_str().unwrap().to_owned())
            };
            headers = request.headers().iter().map(text).collect();
            Ok(response)
        };
        let socket = accept_hdr_async(self.tcp().await, note).await.unwrap();
        Peer { socket, path, headers }
    }
}

impl Peer {
    pub(in crate::sources) async fn say(&mut self, text: impl Into<String>) {
        self.send(Message::text(text.into())).await;
    }

    pub(in crate::sources) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next message that is not a ping.
    pub(in crate::sources) async fn hear(&mut self) -> Message {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            match message.expect("a message").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next message must be this.
    pub(in crate::sources) async fn expect(&mut self, expected: Value) {
        let message = self.hear().await;
        let text = message.to_text().unwrap();
        let said: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("said {text:?}"));
        assert_eq!(said, expected);
    }

    /// Bytes that are as they are, frame or not.
    pub(in crate::sources) async fn raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    pub(in crate::sources) async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).await.unwrap();
    }

    /// Waits for so many pings, and answers them.
    pub(in crate::sources) async fn pings(&mut self, count: usize) {
        for _ in 0..count {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a ping in time");
            let message = message.expect("a ping").unwrap();
            assert!(message.is_ping(), "{message:?}");
        }
        self.socket.flush().await.unwrap();
    }

    /// Waits for a pong, and tells what it says.
    pub(in crate::sources) async fn pong(&mut self) -> String {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("a pong in time");
        match message.expect("a pong").unwrap() {
            Message::Pong(said) => String::from_utf8(said.into()).unwrap(),
            message => panic!("{message:?}"),
        }
    }

    /// Answers pings for as long as it is polled, and until the client says something else.
    pub(in crate::sources) async fn idle(&mut self) {
        while let Some(Ok(Message::Ping(_) | Message::Pong(_))) = self.socket.next().await {}
    }
}
