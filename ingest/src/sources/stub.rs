//! A provider in the test's own process, over real HTTP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use tokio::net::TcpListener;

/// A server that answers until it is dropped.
pub(super) struct Stub {
    address: std::net::SocketAddr,
    answered: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// Serves every request by `answer`, which is given how many there were before.
pub(super) async fn serve<F>(
    answer: impl Fn(usize, Request) -> F + Clone + Send + Sync + 'static,
) -> Stub
where
    F: Future<Output = Response> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let router = Router::new()
        .fallback(move |request: Request| answer(count.fetch_add(1, Ordering::SeqCst), request));
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Stub { address, answered, task }
}

impl Stub {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many requests there were.
    pub(super) fn count(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub(super) async fn requests(&self, count: usize) {
        let waiting = async {
            while self.count() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("requests in time");
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}
