//! Subscribing and the live stream.

use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::protocol::frame::{
    Frame,
    coding::{Data, OpCode},
};

use super::*;

#[tokio::test]
async fn first_the_snapshot_then_live() {
    let server = Fixture::start().await;
    server.publish("AAPL", "150.2300").await;
    let mut client = server.client("").await;
    client.send(r#"{"type":"subscribe","symbols":["AAPL"]}"#).await;
    assert_eq!(client.subscribed().await, ["AAPL"]);
    let price = client.price().await;
    assert_eq!((price.price.as_str(), price.seq, price.prev), ("150.2300", 1, 0));
    server.publish("MSFT", "1").await;
    server.publish("AAPL", "0.00000001").await;
    let price = client.price().await;
    assert_eq!((price.price.as_str(), price.seq, price.prev), ("0.00000001", 3, 1));
    client.send(r#"{"type":"subscribe","symbols":["AAPL"],"id":"again"}"#).await;
    assert_eq!(client.subscribed().await, ["AAPL"]);
    client.is_quiet().await;
}

#[tokio::test]
async fn wildcards_match_what_comes_later_and_nothing_comes_twice() {
    let server = Fixture::start().await;
    server.publish("BTC-USD", "1").await;
    server.publish("ETH-USD", "1").await;
    let mut client = server.client("").await;
    client.send(r#"{"type":"subscribe","symbols":["BTC-*","BTC-USD"]}"#).await;
    assert_eq!(client.subscribed().await, ["BTC-*", "BTC-USD"]);
    assert_eq!(client.price().await.seq, 1);
    client.send(r#"{"type":"subscribe","symbols":["*"]}"#).await;
    assert_eq!(client.subscribed().await, ["*", "BTC-*", "BTC-USD"]);
    assert_eq!(client.price().await.symbol, "ETH-USD");
    server.publish("BTC-EUR", "1").await;
    server.publish("BTC-USD", "2").await;
    server.publish("DOGE", "1").await;
    assert_eq!(client.sequences(3).await, [3, 4, 5]);
    client.is_quiet().await;
}

#[tokio::test]
async fn one_bad_symbol_spoils_nothing() {
    let server = Fixture::start().await;
    server.publish("AAPL", "1").await;
    let mut client = server.client("").await;
    client.send(r#"{"type":"subscribe","symbols":["XYZ","AAPL",""],"id":"7"}"#).await;
    let error = client.error().await;
    assert_eq!(error.message, "Invalid stock symbol: XYZ");
    assert_eq!((error.code, error.id.as_deref()), (ErrorCode::InvalidSymbol, Some("7")));
    assert_eq!(error.symbols, ["XYZ"]);
    assert_eq!(client.error().await.message, "Invalid stock symbol: ");
    assert_eq!(client.subscribed().await, ["AAPL"]);
    assert_eq!(client.price().await.symbol, "AAPL");
}

#[tokio::test]
async fn odd_symbols_are_symbols() {
    let server = Fixture::start().await;
    for symbol in ["BRK.B", "A B", "*", "Q\"\\", "Ö"] {
        server.publish(symbol, "1").await;
    }
    let mut client = server.client("").await;
    client.send(r#"{"type":"subscribe","symbols":["BRK.B","A B","Q\"\\","Ö"]}"#).await;
    assert_eq!(client.subscribed().await, ["A B", "BRK.B", "Q\"\\", "Ö"]);
    assert_eq!(client.sequences(4).await, [2, 1, 4, 5]);
    // A symbol that is named like the wildcard comes with the wildcard.
    client.send(r#"{"type":"subscribe","symbols":["*"]}"#).await;
    client.subscribed().await;
    assert_eq!(client.price().await.symbol, "*");
}

#[tokio::test]
async fn what_is_unsubscribed_stops() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    server.publish("B", "1").await;
    let mut client = server.client("?symbols=A,B").await;
    client.subscribed().await;
    client.sequences(2).await;
    client.send(r#"{"type":"unsubscribe","symbols":["A","Z"]}"#).await;
    assert_eq!(client.subscribed().await, ["B"]);
    server.publish("A", "2").await;
    let sequence = server.publish("B", "2").await;
    assert_eq!(client.price().await.seq, sequence);
    client.send(r#"{"type":"subscribe","symbols":["A"]}"#).await;
    client.subscribed().await;
    assert_eq!(client.price().await.price, "2");
}

#[tokio::test]
async fn conflated_only_the_newest_comes_and_not_too_often() {
    let server = Fixture::start().await;
    server.publish("A", "0").await;
    let mut client = server.client("?symbols=A&conflate_ms=200").await;
    client.subscribed().await;
    let start = std::time::Instant::now();
    client.price().await;
    for price in 1..=500 {
        server.broker.publish("A", &price.to_string());
    }
    assert_eq!(client.price().await.price, "500");
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    client.is_quiet().await;
    client.send(r#"{"type":"subscribe","symbols":[],"conflate_ms":0}"#).await;
    client.subscribed().await;
    for price in 1..=50 {
        server.broker.publish("A", &price.to_string());
    }
    assert_eq!(client.sequences(50).await.len(), 50);
}

#[tokio::test]
async fn alone_a_tick_comes_at_once_and_those_close_behind_it_come_together() {
    let config = WebSocketConfig { coalesce_ms: 300, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    server.publish("A", "1").await;
    let mut client = server.client("?symbols=A").await;
    client.subscribed().await;
    client.price().await;
    server.publish("A", "2").await;
    assert_eq!(client.price().await.price, "2");
    let written = std::time::Instant::now();
    server.publish("A", "3").await;
    client.is_quiet().await;
    server.publish("A", "4").await;
    assert_eq!(client.price().await.price, "3");
    assert!(written.elapsed() >= Duration::from_millis(290), "{:?}", written.elapsed());
    let together = timeout(Duration::from_millis(100), client.price()).await;
    assert_eq!(together.expect("it came with the one before it").price, "4");
}

#[tokio::test]
async fn the_address_may_ask_already() {
    let server = Fixture::start().await;
    server.publish("A B", "1").await;
    let mut client = server.client("?symbols=A%20B,XYZ&id=url&candles=2m").await;
    assert_eq!(client.error().await.message, "Invalid stock symbol: XYZ");
    let error = client.error().await;
    assert_eq!((error.code, error.id.as_deref()), (ErrorCode::InvalidInterval, Some("url")));
    assert_eq!(client.subscribed().await, ["A B"]);
    assert_eq!(client.price().await.symbol, "A B");
    assert!(connect_async(format!("ws://{}/ws?from_seq=x", server.address)).await.is_err());
}

#[tokio::test]
async fn nonsense_is_answered_and_the_connection_goes_on() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let mut client = server.client("").await;
    for text in [
        "nonsense",
        r#"{"type":"subscribe","symbols":["A"],"conflate_ms":60001}"#,
        r#"{"type":"subscribe","symbols":["A"],"from_seq":1,"from_time":"2024-01-01T00:00:00Z"}"#,
    ] {
        client.send(text).await;
        assert_eq!(client.error().await.code, ErrorCode::InvalidMessage, "{text}");
    }
    client.send(r#"{"type":"subscribe","symbols":["A"],"candles":["2m"]}"#).await;
    assert_eq!(client.error().await.code, ErrorCode::InvalidInterval);
    client.subscribed().await;
    client.price().await;
}

#[tokio::test]
async fn a_connection_has_so_many_symbols_and_no_more() {
    let config = WebSocketConfig { max_symbols: 2, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    for symbol in ["A", "B", "C"] {
        server.publish(symbol, "1").await;
    }
    let mut client = server.client("?symbols=A,B,C,A").await;
    let error = client.error().await;
    assert_eq!(error.code, ErrorCode::TooManySymbols);
    assert_eq!(error.symbols, ["C"]);
    assert_eq!(client.subscribed().await, ["A", "B"]);
}

#[tokio::test]
async fn clients_notice_nothing_of_a_broken_reader() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let mut client = server.client("?symbols=A").await;
    client.subscribed().await;
    for _ in 0..5 {
        for _ in 0..20 {
            server.broker.publish("A", "1");
        }
        server.broker.break_readers();
    }
    let sequences = client.sequences(101).await;
    assert_eq!(sequences, (1..=101).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let long = "x".repeat(100_000);
    let not_utf8 = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    let reserved = Frame::message(vec![], OpCode::Data(Data::Reserved(5)), true);
    for (message, code) in [
        (Message::text(long), 1009),
        (Message::Frame(not_utf8), 1007),
        (Message::binary(vec![1]), 1003),
        (Message::Frame(reserved), 1002),
    ] {
        let mut client = server.client("?symbols=A").await;
        client.subscribed().await;
        client.price().await;
        client.0.send(message).await.unwrap();
        assert_eq!(client.error().await.code, ErrorCode::InvalidMessage, "{code}");
        let close = client.receive().await.unwrap_err().expect("a close frame");
        assert_eq!(u16::from(close.code), code);
    }
}

#[tokio::test]
async fn an_unmasked_frame_and_a_message_without_an_end_are_refused() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let mut other = server.client("?symbols=A").await;
    other.subscribed().await;
    other.price().await;

    let mut client = server.client("").await;
    let MaybeTlsStream::Plain(socket) = client.0.get_mut() else { panic!("not plain") };
    socket.write_all(&[0x81, 0x01, b'a']).await.unwrap();
    assert_eq!(client.error().await.code, ErrorCode::InvalidMessage);
    assert_eq!(u16::from(client.receive().await.unwrap_err().unwrap().code), 1002);

    let mut client = server.client("").await;
    let (first, more) = (OpCode::Data(Data::Text), OpCode::Data(Data::Continue));
    for opcode in std::iter::once(first).chain([more; 1_100]) {
        let fragment = Message::Frame(Frame::message(vec![], opcode, false));
        if client.0.send(fragment).await.is_err() {
            break;
        }
    }
    assert_eq!(client.error().await.code, ErrorCode::InvalidMessage);
    assert_eq!(u16::from(client.receive().await.unwrap_err().unwrap().code), 1008);

    server.publish("A", "2").await;
    assert_eq!(other.price().await.seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_for_whom_prices_always_wait_is_heard() {
    let config = WebSocketConfig { queue_frames: 1_000_000, ..WebSocketConfig::default() };
    let server = Fixture::with(config, Arc::default()).await;
    server.publish("A", "1").await;
    let (mut requests, mut answers) = server.client("?symbols=A").await.0.split();
    let reading = tokio::spawn(async move { while answers.next().await.is_some() {} });
    let broker = Arc::clone(&server.broker);
    let publishing = tokio::spawn(async move {
        loop {
            for _ in 0..1_000 {
                broker.publish("A", "1");
            }
            tokio::task::yield_now().await;
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    requests.send(Message::text(r#"{"type":"unsubscribe","symbols":["A"]}"#)).await.unwrap();
    server.until(|hub| hub.subscribers() == 0).await;
    publishing.abort();
    reading.abort();
}
