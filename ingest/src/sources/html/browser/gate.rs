//! The only way out of the browser: a SOCKS proxy (RFC 1928) of our own for each page, that connects
//! to where a page may lead us and to nothing else.
//!
//! Chromium leaves it to a SOCKS proxy to resolve names. So all that a page loads, its redirects,
//! frames, scripts and WebSockets, goes to an address that was judged for that very connection, as
//! with [`service::outbound`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use service::outbound::{self, PrivateAddress, ResolveError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::debug;

/// So many connections a page may have open; more wait.
const CONNECTIONS: usize = 64;

/// How much one connection may bring, in bytes; it is cut then.
const CONNECTION_BYTES: u64 = 32 * 1024 * 1024;

/// How long it may take until a connection is made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

// The replies of RFC 1928, 6.
const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const UNREACHABLE: u8 = 4;
const NO_SUCH_COMMAND: u8 = 7;

/// A proxy, open until it is dropped, with all connections through it.
pub(super) struct Gate {
    port: u16,
    refused: Arc<Mutex<Option<PrivateAddress>>>,
    serving: AbortHandle,
}

impl Gate {
    /// Opens one that lets through to the internet, and to the `trusted` host wherever it is.
    pub(super) async fn open(trusted: Option<String>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let refused = Arc::default();
        let serving = tokio::spawn(serve(listener, trusted, Arc::clone(&refused))).abort_handle();
        Ok(Self { port, refused, serving })
    }

    /// As the browser is told.
    pub(super) fn address(&self) -> String {
        format!("socks5://127.0.0.1:{}", self.port)
    }

    /// The last address that a connection was refused to.
    pub(super) fn refused(&self) -> Option<PrivateAddress> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    trusted: Option<String>,
    refused: Arc<Mutex<Option<PrivateAddress>>>,
) {
    let trusted: Option<Arc<str>> = trusted.map(Into::into);
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    // Ends with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (trusted, refused) = (trusted.clone(), Arc::clone(&refused));
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = pass(client, trusted.as_deref(), &refused).await {
                debug!(%error, "a connection of the browser");
            }
        });
    }
}

/// One connection, from the greeting to its end.
async fn pass(
    mut client: TcpStream,
    trusted: Option<&str>,
    refused: &Mutex<Option<PrivateAddress>>,
) -> io::Result<()> {
    let connecting = async {
        let (host, port) = wanted(&mut client).await?;
        let trusted = trusted == Some(host.as_str());
        let addresses = match outbound::addresses(&host, port, trusted).await {
            Ok(addresses) => addresses,
            Err(ResolveError::Private(private)) => {
                answer(&mut client, NOT_ALLOWED).await?;
                let error = io::Error::other(private.clone());
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(private);
                return Err(error);
            }
            Err(ResolveError::Unknown(error)) => {
                answer(&mut client, UNREACHABLE).await?;
                return Err(error);
            }
        };
        match TcpStream::connect(&*addresses).await {
            Ok(server) => {
                answer(&mut client, SUCCEEDED).await?;
                Ok(server)
            }
            Err(error) => {
                answer(&mut client, UNREACHABLE).await?;
                Err(error)
            }
        }
    };
    let mut server = timeout(CONNECT_WITHIN, connecting).await??;
    let (mut from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let mut from_server = from_server.take(CONNECTION_BYTES);
    tokio::select! {
        passed = copy(&mut from_client, &mut to_server) => passed,
        passed = copy(&mut from_server, &mut to_client) => passed,
    }
    .map(drop)
}

/// Reads the greeting and the request: the host, as in a URL, and the port.
async fn wanted(client: &mut TcpStream) -> io::Result<(String, u16)> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "it does not speak SOCKS 5");
    let [version, methods] = read(client).await?;
    if version != 5 {
        return Err(unknown());
    }
    client.read_exact(&mut vec![0; usize::from(methods)]).await?;
    // Without authentication: only this machine can connect, and only to where anybody can.
    client.write_all(&[5, 0]).await?;
    let [version, command, _, kind] = read(client).await?;
    let host = match (version, kind) {
        (5, 1) => IpAddr::from(Ipv4Addr::from(read::<4>(client).await?)).to_string(),
        (5, 4) => format!("[{}]", Ipv6Addr::from(read::<16>(client).await?)),
        (5, 3) => {
            let [length] = read(client).await?;
            let mut name = vec![0; usize::from(length)];
            client.read_exact(&mut name).await?;
            String::from_utf8(name).map_err(|_| unknown())?
        }
        _ => return Err(unknown()),
    };
    let port = u16::from_be_bytes(read(client).await?);
    if command != 1 {
        answer(client, NO_SUCH_COMMAND).await?;
        return Err(unknown());
    }
    Ok((host, port))
}

async fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The address in it is never looked at.
async fn answer(client: &mut TcpStream, reply: u8) -> io::Result<()> {
    client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for a connection; what the gate answers, and the connection.
    async fn ask(gate: &Gate, address: &[u8], port: u16) -> (u8, TcpStream) {
        let mut socket = TcpStream::connect(("127.0.0.1", gate.port)).await.unwrap();
        socket.write_all(&[5, 1, 0]).await.unwrap();
        assert_eq!(read(&mut socket).await.unwrap(), [5, 0]);
        let request = [&[5, 1, 0][..], address, &port.to_be_bytes()].concat();
        socket.write_all(&request).await.unwrap();
        let [version, reply, ..]: [u8; 10] = read(&mut socket).await.unwrap();
        assert_eq!(version, 5);
        (reply, socket)
    }

    #[tokio::test]
    async fn only_the_trusted_host_may_be_private() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let echo = async {
            let (mut socket, _) = server.accept().await.unwrap();
            let bytes: [u8; 5] = read(&mut socket).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
        };
        let gate = Gate::open(Some("127.0.0.1".into())).await.unwrap();
        let client = async {
            let (reply, mut socket) = ask(&gate, &[1, 127, 0, 0, 1], port).await;
            assert_eq!(reply, SUCCEEDED);
            socket.write_all(b"hello").await.unwrap();
            assert_eq!(&read::<5>(&mut socket).await.unwrap(), b"hello");
        };
        tokio::join!(echo, client);
        assert_eq!(gate.refused(), None);

        let name = b"\x03\x09localhost";
        let mapped = [&[4][..], &[0; 10], &[0xff, 0xff, 127, 0, 0, 1]].concat();
        for (address, host) in [
            (&name[..], "localhost"),
            (&[1, 169, 254, 169, 254], "169.254.169.254"),
            (&[1, 127, 0, 0, 2], "127.0.0.2"),
            (&mapped, "[::ffff:127.0.0.1]"),
        ] {
            let (reply, _) = ask(&gate, address, port).await;
            assert_eq!(reply, NOT_ALLOWED, "{host}");
            assert_eq!(gate.refused().unwrap().host, host);
        }
        let (reply, _) = ask(&gate, &[1, 127, 0, 0, 1], 1).await;
        assert_eq!(reply, UNREACHABLE);
    }
}
