//! Answers without an end through the gateway.

use std::{convert::Infallible, time::Duration};

use axum::{body::Body, http::HeaderMap, routing::get};
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::{sync::mpsc, time::timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

type Pieces = mpsc::UnboundedSender<Bytes>;

/// An instance whose one answer is what is sent into the channel, after the header that it got.
async fn streaming() -> (SocketAddr, Pieces) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let (first, hello) = (sender.clone(), receiver);
    let handler = get(move |headers: HeaderMap| async move {
        let Some(receiver) = hello.lock().unwrap().take() else {
            return Err(service::Problem::not_found("no more"));
        };
        let last = headers.get("last-event-id").map(|id| id.as_bytes().to_vec());
        first.send(last.unwrap_or_default().into()).unwrap();
        Ok(Body::from_stream(unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receiver))
        })))
    });
    (serve(Router::new().route("/events", handler)).await, sender)
}

#[tokio::test]
async fn pieces_pass_as_they_come_until_either_side_ends() {
    let gateway = Gateway::unlimited().await;
    let (address, pieces) = streaming().await;
    gateway.knows(PROVIDE, "p", address, 0);
    let request = gateway.get("/events?symbols=A").header("last-event-id", "7");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "7");
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        pieces.send(piece.into()).unwrap();
        let passed = timeout(PATIENCE, response.chunk()).await.expect("it does not wait for more");
        assert_eq!(passed.unwrap().unwrap(), piece);
    }
    drop(response);
    // The instance notices that its client has gone.
    timeout(PATIENCE, pieces.closed()).await.unwrap();
}

#[tokio::test]
async fn a_stopping_gateway_ends_them() {
    let gateway = Gateway::unlimited().await;
    let (address, pieces) = streaming().await;
    gateway.knows(PROVIDE, "p", address, 0);
    let mut response = gateway.get("/events").send().await.unwrap();
    pieces.send("data: 1\n\n".into()).unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    gateway.shutdown.cancel();
    assert_eq!(timeout(PATIENCE, response.chunk()).await.unwrap().unwrap(), None);
    timeout(PATIENCE, pieces.closed()).await.unwrap();
}

#[tokio::test]
async fn a_problem_of_the_instance_is_the_answer_and_takes_no_place() {
    let config = Config { requests_per_second: 0, connections_per_client: 1, ..Config::default() };
    let gateway = Gateway::start(config).await;
    let (address, _pieces) = streaming().await;
    gateway.knows(PROVIDE, "p", address, 0);
    let first = gateway.get("/events").send().await.unwrap();
    assert_eq!(gateway.get("/events").send().await.unwrap().status(), 429);
    drop(first);
    for _ in 0..3 {
        let answered = async {
            loop {
                let response = gateway.get("/events").send().await.unwrap();
                if response.status() != 429 {
                    return response.status();
                }
            }
        };
        assert_eq!(timeout(PATIENCE, answered).await.unwrap(), 404);
    }
}
