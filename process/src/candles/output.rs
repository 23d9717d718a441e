//! The messages that go out.

use bytes::Bytes;
use nats::{LiveMessage, NewMessage};
use schemas::{CandleUpdate, headers, subject};

/// A revision of a closed candle, for `CANDLES`.
pub(super) fn closed(update: &CandleUpdate) -> NewMessage {
    NewMessage {
        subject: subject::candle(update.candle.interval, &update.candle.symbol),
        headers: vec![
            (headers::MESSAGE_ID, update.message_id()),
            (headers::CONTENT_TYPE, "application/json".to_owned()),
        ],
        body: json(update),
    }
}

/// A running candle, for whoever listens.
pub(super) fn running(update: &CandleUpdate) -> LiveMessage {
    LiveMessage {
        subject: subject::running_candle(update.candle.interval, &update.candle.symbol),
        body: json(update),
    }
}

fn json(update: &CandleUpdate) -> Bytes {
    let mut body = Vec::with_capacity(512);
    #[expect(clippy::expect_used, reason = "texts and numbers into memory: nothing that can fail")]
    serde_json::to_writer(&mut body, update).expect("a candle is JSON");
    Bytes::from(body)
}
