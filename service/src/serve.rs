//! HTTP/1.1 on a listener.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, serve::Listener};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

/// How long a client may take to send the head of a request, and how long it may be silent between
/// two: whoever opens connections and dawdles does not keep them.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a router over HTTP/1.1 until `stop`; then idle connections are closed, and requests that are open may finish.
/// WebSockets are no longer its concern once they are switched.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
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
        connections.spawn(connection(stream, peer, router.clone(), head_timeout, stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
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
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    async fn start(stop: CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
            tokio::time::sleep(3 * PATIENCE).await;
            peer.to_string()
        });
        let router = Router::new().route("/slow", slow);
        (address, tokio::spawn(serve(listener, router, PATIENCE, stop)))
    }

    /// What is answered to these bytes until the connection is closed.
    async fn exchange(address: SocketAddr, bytes: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(50 * PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("the connection is closed").unwrap();
        answer
    }

    #[tokio::test]
    async fn a_client_that_dawdles_over_a_head_is_dropped_and_a_slow_answer_is_not() {
        let (address, _server) = start(CancellationToken::new()).await;
        for head in ["", "P", "GET /slow HTTP/1.1\r\nHost: a\r\n"] {
            assert!(!exchange(address, head).await.contains("200 OK"), "{head:?}");
        }
        let answer = exchange(address, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("127.0.0.1:"), "{answer}");
    }

    #[tokio::test]
    async fn an_open_request_is_answered_after_stop_and_nobody_new_comes_in() {
        let stop = CancellationToken::new();
        let (address, server) = start(stop.clone()).await;
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
