//! Candles beside prices.

use schemas::{CandleInterval, CandleUpdate, ErrorCode, ServerMessage};

use super::{Client, Fixture};
use crate::{candles::CandleFrame, config::WebSocketConfig};

/// A candle of that minute, running where its revision is 0.
fn candle(symbol: &str, interval: &str, minute: i64, revision: u32) -> CandleFrame {
    let start = jiff::Timestamp::from_second(minute * 60).unwrap();
    let body = serde_json::json!({
        "symbol": symbol, "interval": interval, "start": start, "end": start, "open": "1.50",
        "high": "1.50", "low": "1.50", "close": "1.50", "volume": "1", "turnover": "1.50",
        "vwap": "1.5", "trades": 1, "first_trade": start, "last_trade": start,
        "closed": revision > 0, "revision": revision, "seq": 1,
    });
    CandleFrame::read(body.to_string().as_bytes()).unwrap()
}

impl Client {
    /// Symbol, interval, minute and revision of the next message, which is a candle.
    async fn candle(&mut self) -> (String, CandleInterval, i64, u32) {
        match self.receive().await {
            Ok(ServerMessage::Candle { data: CandleUpdate { candle, closed, revision, .. } }) => {
                assert_eq!(closed, revision > 0);
                let minute = candle.start.as_second() / 60;
                (candle.symbol.to_string(), candle.interval, minute, revision)
            }
            other => panic!("no candle but {other:?}"),
        }
    }

    async fn minute(&mut self) -> (String, i64, u32) {
        let (symbol, interval, minute, revision) = self.candle().await;
        assert_eq!(interval, CandleInterval::OneMinute);
        (symbol, minute, revision)
    }
}

#[tokio::test]
async fn the_newest_come_first_and_then_what_closes_and_what_runs() {
    let server = Fixture::start().await;
    for symbol in ["A", "B", "C"] {
        server.publish(symbol, "1").await;
    }
    for (symbol, minute, revision) in
        [("A", 1, 1), ("A", 2, 1), ("A", 2, 2), ("A", 3, 0), ("B", 7, 0), ("C", 9, 1)]
    {
        server.candles.publish(candle(symbol, "1m", minute, revision));
    }
    server.candles.publish(candle("A", "5m", 0, 1));
    let mut client = server.client("").await;
    client.send(r#"{"type":"subscribe","symbols":["A","B"],"candles":["1m"]}"#).await;
    match client.receive().await {
        Ok(ServerMessage::Subscribed(subscribed)) => {
            assert_eq!(subscribed.candles["1m"], ["A", "B"]);
        }
        other => panic!("not subscribed but {other:?}"),
    }
    client.sequences(2).await;
    assert_eq!(client.minute().await, ("A".into(), 2, 2));
    assert_eq!(client.minute().await, ("A".into(), 3, 0));
    assert_eq!(client.minute().await, ("B".into(), 7, 0));

    server.candles.publish(candle("A", "1m", 2, 0));
    server.candles.publish(candle("A", "1m", 3, 1));
    server.candles.publish(candle("A", "1m", 3, 0));
    server.candles.publish(candle("A", "1m", 2, 3));
    server.candles.publish(candle("C", "1m", 10, 1));
    server.candles.publish(candle("A", "5m", 5, 1));
    server.candles.publish(candle("B", "1m", 8, 0));
    assert_eq!(client.minute().await, ("A".into(), 3, 1), "a late word on what is closed is none");
    assert_eq!(client.minute().await, ("A".into(), 2, 3), "an older one is restated");
    assert_eq!(client.minute().await, ("B".into(), 8, 0));
    client.is_quiet().await;
}

#[tokio::test]
async fn unsubscribing_ends_them_alone_or_with_the_prices() {
    let server = Fixture::start().await;
    for symbol in ["A", "BTC-USD"] {
        server.publish(symbol, "1").await;
    }
    let mut client = server.client("?symbols=A,BTC-*&candles=1m,5m").await;
    client.subscribed().await;
    client.sequences(2).await;
    server.candles.publish(candle("BTC-USD", "5m", 0, 1));
    assert_eq!(client.candle().await.1, CandleInterval::FiveMinutes);

    client.send(r#"{"type":"unsubscribe","symbols":["BTC-*"],"candles":["5m"]}"#).await;
    assert_eq!(client.subscribed().await, ["A", "BTC-*"]);
    server.candles.publish(candle("BTC-USD", "5m", 5, 1));
    server.candles.publish(candle("BTC-USD", "1m", 5, 1));
    assert_eq!(client.minute().await, ("BTC-USD".into(), 5, 1));

    client.send(r#"{"type":"unsubscribe","symbols":["A"]}"#).await;
    assert_eq!(client.subscribed().await, ["BTC-*"]);
    server.candles.publish(candle("A", "1m", 6, 1));
    server.candles.publish(candle("BTC-USD", "1m", 6, 1));
    assert_eq!(client.minute().await, ("BTC-USD".into(), 6, 1));
    client.is_quiet().await;
}

#[tokio::test]
async fn a_bad_interval_is_named_and_spoils_no_other() {
    let server = Fixture::start().await;
    server.publish("A", "1").await;
    let mut client = server.client("").await;
    let request = r#"{"type":"subscribe","symbols":["A"],"candles":["2m","1m"],"id":"x"}"#;
    client.send(request).await;
    let error = client.error().await;
    assert_eq!((error.code, error.id.as_deref()), (ErrorCode::InvalidInterval, Some("x")));
    assert!(error.message.starts_with("Invalid candle interval: 2m; "), "{}", error.message);
    client.subscribed().await;
    client.price().await;
    server.candles.publish(candle("A", "1m", 1, 1));
    assert_eq!(client.minute().await, ("A".into(), 1, 1));
}

#[tokio::test]
async fn a_client_that_takes_no_candles_is_closed() {
    let config = WebSocketConfig { queue_frames: 16, ..WebSocketConfig::default() };
    let server = Fixture::with(config, std::sync::Arc::default()).await;
    server.publish("A", "1").await;
    let mut client = server.client("?symbols=A&candles=1m").await;
    client.subscribed().await;
    client.price().await;
    // No other task runs meanwhile: as if the socket took nothing.
    for minute in 0..100 {
        server.candles.publish(candle("A", "1m", minute, 1));
    }
    let (_, code) = client.closed(&mut Vec::new()).await;
    assert_eq!(code, 4008);
}
