//! A way to a server that can be shut, or is slow: a network that fails while the server is well.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// A URL that leads to a server while it is open, where everybody is refused while it is shut.
pub(crate) struct Gate {
    url: String,
    address: SocketAddr,
    /// Where the server listens, `host:port`.
    server: String,
    /// How much a connection gets from the server in a second, if that is limited.
    bytes_per_sec: Option<u32>,
    passage: Option<JoinHandle<()>>,
}

impl Gate {
    /// A shut gate to the server of this URL.
    pub(crate) async fn shut_to(url: &str) -> Self {
        let (_, rest) = url.split_once("://").expect("a URL");
        let rest = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        let server = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (url, server) = (url.replacen(server, &address.to_string(), 1), server.to_owned());
        Self { url, address, server, bytes_per_sec: None, passage: None }
    }

    /// An open gate.
    pub(crate) async fn open_to(url: &str) -> Self {
        let mut gate = Self::shut_to(url).await;
        gate.open().await;
        gate
    }

    /// An open gate that lets each connection get so much in a second.
    pub(crate) async fn slow_to(url: &str, bytes_per_sec: u32) -> Self {
        let mut gate = Self { bytes_per_sec: Some(bytes_per_sec), ..Self::shut_to(url).await };
        gate.open().await;
        gate
    }

    /// The server's URL, by way of the gate.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Lets everybody through.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        let (server, bytes_per_sec) = (self.server.clone(), self.bytes_per_sec);
        self.passage = Some(tokio::spawn(async move {
            // Who is on the way ends with the passage.
            let mut travellers = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server runs");
                travellers.spawn(travel(client, server, bytes_per_sec));
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

/// Carries both ways, until one of them ends.
async fn travel(
    mut client: TcpStream,
    mut server: TcpStream,
    bytes_per_sec: Option<u32>,
) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.split(), server.split());
    let back = async {
        let Some(bytes_per_sec) = bytes_per_sec else {
            return copy(&mut from_server, &mut to_client).await.map(drop);
        };
        let mut buffer = [0; 16 * 1024];
        loop {
            match from_server.read(&mut buffer).await? {
                0 => return Ok(()),
                read => {
                    to_client.write_all(&buffer[..read]).await?;
                    sleep(Duration::from_secs_f64(read as f64 / f64::from(bytes_per_sec))).await;
                }
            }
        }
    };
    tokio::select! {
        there = copy(&mut from_client, &mut to_server) => there.map(drop),
        back = back => back,
    }
}
