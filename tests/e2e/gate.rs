//! A way to a server that can be shut: a network that fails while the server is well.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// An address that leads to a server while it is open, and refuses everybody while it is shut.
pub(crate) struct Gate {
    address: SocketAddr,
    server: String,
    passage: Option<JoinHandle<()>>,
}

impl Gate {
    /// A shut gate to the server at `server`, `host:port`.
    pub(crate) async fn shut_to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Self { address, server: server.to_owned(), passage: None }
    }

    /// Where to knock, `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets everybody through.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        let server = self.server.clone();
        self.passage = Some(tokio::spawn(async move {
            // Who is on the way ends with the passage.
            let mut travellers = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(&server).await.expect("the server runs");
                travellers.spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        }));
    }

    /// Cuts every connection, and refuses new ones.
    pub(crate) async fn shut(&mut self) {
        if let Some(passage) = self.passage.take() {
            passage.abort();
            let _ = passage.await;
        }
    }
}
