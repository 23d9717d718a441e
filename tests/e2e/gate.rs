//! A way to a server that can be shut, or is slow: a network that fails while the server is well.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// An address that leads to a server while it is open, and refuses everybody while it is shut.
pub(crate) struct Gate {
    address: SocketAddr,
    server: String,
    /// How much a connection gets from the server in a second, if that is limited.
    bytes_per_sec: Option<u32>,
    passage: Option<JoinHandle<()>>,
}

impl Gate {
    /// A shut gate to the server at `server`, `host:port`.
    pub(crate) async fn shut_to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Self { address, server: server.to_owned(), bytes_per_sec: None, passage: None }
    }

    /// A gate to the server that is open, and lets each connection get so much in a second.
    pub(crate) async fn slow_to(server: &str, bytes_per_sec: u32) -> Self {
        let mut gate = Self { bytes_per_sec: Some(bytes_per_sec), ..Self::shut_to(server).await };
        gate.open().await;
        gate
    }

    /// Where to knock, `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
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
