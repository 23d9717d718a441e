//! HTTP/1.1 on a listener, and where gRPC is offered HTTP/2 on the same one.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, serve::Listener};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// How long a client may take to send the head of a request, and how long it may be silent between
/// two: whoever opens connections and dawdles does not keep them.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How an HTTP/2 connection begins (RFC 9113, 3.4), all of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon a beginning that may still become one is looked at again.
const PREFACE_PACE: Duration = Duration::from_millis(5);
/// How many requests of one HTTP/2 connection may be open.
const MAX_STREAMS: u32 = 64;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS too, for clients that begin with it, as those of gRPC do.
    Http1And2,
}

/// Serves a router over HTTP/1.1 until `stop`: see [`serve_protocols`].
pub async fn serve(
    listener: TcpListener,
    router: Router,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    serve_protocols(listener, router, Protocols::Http1, head_timeout, stop).await;
}

/// Serves a router until `stop`; then idle connections are closed, and requests that are open may finish.
/// WebSockets are no longer its concern once they are switched.
pub(crate) async fn serve_protocols(
    mut listener: TcpListener,
    router: Router,
    protocols: Protocols,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        // It retries by itself where the system is out of file descriptors.
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = Listener::accept(&mut listener) => accepted,
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(connection(stream, peer, router, protocols, head_timeout, stop));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    protocols: Protocols,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    // Ticks are small and must not wait for company. An error means the peer is gone.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request.map(Body::new))
    });
    let is_http2 = match protocols {
        Protocols::Http1 => Ok(false),
        Protocols::Http1And2 => tokio::select! {
            begun = timeout(head_timeout, begins_http2(&stream)) => begun,
            () = stop.cancelled() => return,
        },
    };
    let ended = match is_http2 {
        // Nothing came, or too little.
        Err(_) => return,
        Ok(false) => {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .serve_connection(TokioIo::new(stream), answer)
                .with_upgrades();
            until(served, |served| served.graceful_shutdown(), &stop).await
        }
        Ok(true) => {
            // A client may be silent for long, but it must be there.
            let served = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(head_timeout)
                .keep_alive_timeout(head_timeout)
                .max_concurrent_streams(MAX_STREAMS)
                .serve_connection(TokioIo::new(stream), answer);
            until(served, |served| served.graceful_shutdown(), &stop).await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}

/// Serves a connection to its end, which `stop` brings nearer.
async fn until<C: Future<Output = hyper::Result<()>>>(
    served: C,
    graceful_shutdown: impl FnOnce(Pin<&mut C>),
    stop: &CancellationToken,
) -> hyper::Result<()> {
    tokio::pin!(served);
    tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            graceful_shutdown(served.as_mut());
            served.await
        }
    }
}

/// Whether the client speaks HTTP/2; what it has sent stays to be read.
async fn begins_http2(stream: &TcpStream) -> bool {
    let mut begun = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut begun).await {
            Ok(length) if length == PREFACE.len() => return begun == PREFACE,
            Ok(length) if length > 0 && PREFACE.starts_with(&begun[..length]) => {
                sleep(PREFACE_PACE).await;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    async fn start(
        protocols: Protocols,
        stop: CancellationToken,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
            tokio::time::sleep(3 * PATIENCE).await;
            peer.to_string()
        });
        let router = Router::new().route("/slow", slow);
        (address, tokio::spawn(serve_protocols(listener, router, protocols, PATIENCE, stop)))
    }

    /// What is answered to these bytes until the connection is closed.
    async fn exchange(address: SocketAddr, bytes: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(50 * PATIENCE, stream.read_to_string(&mut answer)).await;
        match read.expect("the connection is closed") {
            // What it had sent was not read.
            Err(fault) if fault.kind() == ErrorKind::ConnectionReset => {}
            read => drop(read.unwrap()),
        }
        answer
    }

    #[tokio::test]
    async fn a_client_that_dawdles_over_a_head_is_dropped_and_a_slow_answer_is_not() {
        for protocols in [Protocols::Http1, Protocols::Http1And2] {
            let (address, _server) = start(protocols, CancellationToken::new()).await;
            for head in ["", "P", "PRI * HTTP/2.0\r\n", "GET /slow HTTP/1.1\r\nHost: a\r\n"] {
                assert!(!exchange(address, head).await.contains("200 OK"), "{head:?}");
            }
            let answer = exchange(address, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert!(answer.contains("127.0.0.1:"), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_open_request_is_answered_after_stop_and_nobody_new_comes_in() {
        let stop = CancellationToken::new();
        let (address, server) = start(Protocols::Http1And2, stop.clone()).await;
        let asked = exchange(address, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        let stopping = async {
            tokio::time::sleep(PATIENCE).await;
            stop.cancel();
        };
        let (answer, ()) = tokio::join!(asked, stopping);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
