//! The binary subprotocol.

use schemas::msgpack;
use serde_json::{Value, json};

use super::*;

/// The next message of the server, as JSON.
async fn unpacked(client: &mut Client) -> Value {
    loop {
        match timeout(PATIENCE, client.0.next()).await.expect("the server says something") {
            Some(Ok(Message::Binary(bytes))) => return msgpack::to_json(&bytes).unwrap(),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("no binary message but {other:?}"),
        }
    }
}

async fn msgpack_client(server: &Fixture, query: &str) -> Client {
    let headers = [("sec-websocket-protocol", msgpack::PROTOCOL)];
    let (client, response) = server.connect(query, &headers).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], msgpack::PROTOCOL);
    client
}

#[tokio::test]
async fn msgpack_says_all_that_json_says_and_every_digit() {
    let server = Fixture::start().await;
    server.publish("AAPL", "150.2300").await;
    let mut client = msgpack_client(&server, "?symbols=AAPL,NONE&id=7").await;
    assert_eq!(
        unpacked(&mut client).await,
        json!({"type": "error", "message": "Invalid stock symbol: NONE", "code": "invalid_symbol",
            "id": "7", "symbols": ["NONE"]})
    );
    let subscribed = json!({"type": "subscribed", "symbols": ["AAPL"], "id": "7"});
    assert_eq!(unpacked(&mut client).await, subscribed);
    let price = |price: &str, seq, prev| {
        json!({"type": "price_update", "data": {"AAPL": {"price": price,
            "timestamp": "2024-09-14T12:34:56Z", "seq": seq, "prev": prev, "size": "100",
            "exchange": null, "source": "sim"}}})
    };
    assert_eq!(unpacked(&mut client).await, price("150.2300", 1, 0));
    server.publish("AAPL", "0.00000001").await;
    assert_eq!(unpacked(&mut client).await, price("0.00000001", 2, 1));

    let unsubscribe = b"\x82\xa4type\xabunsubscribe\xa7symbols\x91\xa4AAPL";
    client.0.send(Message::binary(unsubscribe.as_slice())).await.unwrap();
    assert_eq!(unpacked(&mut client).await, json!({"type": "subscribed", "symbols": []}));
    let replay = b"\x83\xa4type\xa9subscribe\xa7symbols\x91\xa4AAPL\xa8from_seq\x01";
    client.0.send(Message::binary(replay.as_slice())).await.unwrap();
    assert_eq!(unpacked(&mut client).await, json!({"type": "subscribed", "symbols": ["AAPL"]}));
    assert_eq!(unpacked(&mut client).await, price("0.00000001", 2, 1));
    client.0.send(Message::binary(b"\xc1".as_slice())).await.unwrap();
    assert_eq!(unpacked(&mut client).await["code"], "invalid_message");
}

#[tokio::test]
async fn clients_of_both_kinds_share_a_stream() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let (mut packed, mut text) =
        (msgpack_client(&server, "?symbols=A").await, server.client("?symbols=A").await);
    unpacked(&mut packed).await;
    text.subscribed().await;
    for _ in 0..100 {
        server.broker.publish("A", "1");
    }
    for seq in 1..=101 {
        assert_eq!(unpacked(&mut packed).await["data"]["A"]["seq"], seq);
        assert_eq!(text.price().await.seq, seq);
    }
}

#[tokio::test]
async fn text_is_not_for_those_who_asked_for_msgpack() {
    let server = Fixture::start().await;
    let mut client = msgpack_client(&server, "").await;
    client.send(r#"{"type":"subscribe","symbols":["A"]}"#).await;
    assert_eq!(unpacked(&mut client).await["code"], "invalid_message");
    let closed = timeout(PATIENCE, client.0.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(close)))) = closed else { panic!("{closed:?}") };
    assert_eq!(u16::from(close.code), 1003);
}
