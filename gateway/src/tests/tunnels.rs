//! WebSockets through the gateway.

use std::time::Duration;

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    http::HeaderMap,
    routing::any,
};
use futures_util::{SinkExt, StreamExt, future::join_all};
use schemas::msgpack;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message as Sent, client::IntoClientRequest, protocol::CloseFrame as Goodbye,
    },
};

use super::*;

/// An instance that says its name and the protocol asked for, then echoes, closes when asked to,
/// and tells how each connection was closed.
async fn echoing(name: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<Option<u16>>) {
    let (closed, closes) = mpsc::unbounded_channel();
    let handler = any(move |upgrade: WebSocketUpgrade, headers: HeaderMap| async move {
        let asked = headers.get("x-asked").map_or("", |value| value.to_str().unwrap()).to_owned();
        upgrade
            .max_message_size(16 << 20)
            .max_frame_size(16 << 20)
            .protocols(["lizards.v1.msgpack"])
            .on_upgrade(move |socket| echo(socket, format!("{name}{asked}"), closed))
    });
    (serve(Router::new().route("/ws", handler)).await, closes)
}

async fn echo(mut socket: WebSocket, hello: String, closed: mpsc::UnboundedSender<Option<u16>>) {
    socket.send(Message::Text(hello.into())).await.unwrap();
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Text(text) if text.as_str() == "go" => {
                let frame = CloseFrame { code: 4_008, reason: "too slow".into() };
                socket.send(Message::Close(Some(frame))).await.unwrap();
            }
            Message::Close(frame) => {
                closed.send(frame.map(|frame| frame.code)).unwrap();
            }
            Message::Text(_) | Message::Binary(_) => socket.send(message).await.unwrap(),
            _ => {}
        }
    }
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(gateway: &Gateway) -> (Client, String) {
    let (mut client, _) = connect_async(format!("ws://{}/ws", gateway.address)).await.unwrap();
    let hello = next(&mut client).await.into_text().unwrap().to_string();
    (client, hello)
}

async fn next(client: &mut Client) -> Sent {
    timeout(Duration::from_secs(5), client.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn both_directions_carry_large_frames() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "p", echoing("p").await.0, 0);
    let (mut client, _) = open(&gateway).await;
    for length in [0, 1, 125, 126, 65_536, 5_000_000] {
        let message = Sent::binary(vec![7; length]);
        client.send(message.clone()).await.unwrap();
        assert!(next(&mut client).await == message, "{length} bytes");
    }
    client.send(Sent::Ping("are you there".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Sent::Pong("are you there".into()));
}

#[tokio::test]
async fn close_codes_pass_in_both_directions() {
    let gateway = Gateway::unlimited().await;
    let (address, mut closes) = echoing("p").await;
    gateway.knows(PROVIDE, "p", address, 0);

    let (mut client, _) = open(&gateway).await;
    client.send(Sent::text("go")).await.unwrap();
    let Sent::Close(Some(frame)) = next(&mut client).await else { panic!("not closed") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4_008, "too slow"));

    let (mut client, _) = open(&gateway).await;
    client.close(Some(Goodbye { code: 4_001.into(), reason: "".into() })).await.unwrap();
    while closes.recv().await.unwrap() != Some(4_001) {}
}

#[tokio::test]
async fn the_handshake_passes_in_both_directions() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "p", echoing("p").await.0, 0);
    let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-asked", "!".parse().unwrap());
    headers.insert("sec-websocket-protocol", "lizards.v1.msgpack".parse().unwrap());
    let (mut client, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "lizards.v1.msgpack");
    assert_eq!(next(&mut client).await, Sent::text("p!"));
}

#[tokio::test]
async fn a_refused_handshake_is_the_instances_answer() {
    let gateway = Gateway::unlimited().await;
    let refusing =
        Router::new().route("/ws", any(|| async { service::Problem::bad_request("no") }));
    gateway.knows(PROVIDE, "p", serve(refusing).await, 0);
    let refused = connect_async(format!("ws://{}/ws", gateway.address)).await.unwrap_err();
    let Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 400);
    assert_eq!(problem(gateway.get("/ws")).await, (400, "no".into()));
}

#[tokio::test]
async fn tunnels_go_to_the_least_loaded_instance_before_it_says_so() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "a", echoing("a").await.0, 6);
    gateway.knows(PROVIDE, "b", echoing("b").await.0, 0);
    // The registry does not change meanwhile: what evens the two out is what we opened ourselves.
    let mut clients = join_all((0..2).map(|_| open(&gateway))).await;
    for _ in 0..12 {
        clients.push(open(&gateway).await);
    }
    let of = |name| clients.iter().filter(|(_, hello)| hello == name).count();
    assert_eq!((of("a"), of("b")), (4, 10));
}

#[tokio::test]
async fn a_tunnel_passes_over_an_instance_that_refuses() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "dead", nobody().await, 0);
    gateway.knows(PROVIDE, "live", echoing("live").await.0, 7);
    assert_eq!(open(&gateway).await.1, "live");
}

#[tokio::test]
async fn a_stopping_gateway_says_goodbye() {
    let gateway = Gateway::unlimited().await;
    let (address, mut closes) = echoing("p").await;
    gateway.knows(PROVIDE, "p", address, 0);
    let (mut client, _) = open(&gateway).await;
    gateway.shutdown.cancel();
    let closing = next(&mut client).await.into_text().unwrap();
    let closing: Value = serde_json::from_str(&closing).unwrap();
    assert_eq!((&closing["type"], &closing["reason"]), (&"closing".into(), &"shutdown".into()));
    let Sent::Close(Some(frame)) = next(&mut client).await else { panic!("not closed") };
    assert_eq!(u16::from(frame.code), 1_001);
    // Reading on sends the answering close, which the instance gets.
    assert!(client.next().await.is_none());
    assert_eq!(closes.recv().await.unwrap(), Some(1_001));
    timeout(Duration::from_secs(5), gateway.door.tunnels.drained()).await.unwrap();
}

#[tokio::test]
async fn a_stopping_gateway_says_goodbye_in_msgpack_too() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "p", echoing("p").await.0, 0);
    let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", msgpack::PROTOCOL.parse().unwrap());
    let (mut client, _) = connect_async(request).await.unwrap();
    next(&mut client).await;
    gateway.shutdown.cancel();
    let Sent::Binary(closing) = next(&mut client).await else { panic!("not binary") };
    assert_eq!(msgpack::to_json(&closing).unwrap()["type"], "closing");
}

#[tokio::test]
async fn a_client_keeps_so_many_tunnels_and_no_more() {
    let config = Config { requests_per_second: 0, connections_per_client: 2, ..Config::default() };
    let gateway = Gateway::start(config).await;
    gateway.knows(PROVIDE, "p", echoing("p").await.0, 0);
    let (first, _second) = (open(&gateway).await, open(&gateway).await);
    let refused = connect_async(format!("ws://{}/ws", gateway.address)).await.unwrap_err();
    let Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 429);
    drop(first);
    let comes_in =
        async { while connect_async(format!("ws://{}/ws", gateway.address)).await.is_err() {} };
    timeout(Duration::from_secs(5), comes_in).await.unwrap();
}

#[tokio::test]
async fn a_stopping_gateway_does_not_wait_for_a_client_that_is_silent() {
    let gateway = Gateway::unlimited().await;
    gateway.knows(PROVIDE, "p", echoing("p").await.0, 0);
    let (_client, _) = open(&gateway).await;
    gateway.shutdown.cancel();
    timeout(Duration::from_secs(5), gateway.door.tunnels.drained()).await.unwrap();
}
