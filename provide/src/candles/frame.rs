//! A candle as finished WebSocket frames, encoded once for all who receive it.

use std::sync::OnceLock;

use bytes::Bytes;
use jiff::Timestamp;
use schemas::{CandleInterval, CandleUpdate, ServerMessage, Symbol};

use crate::{
    hub::Format,
    wire::{Kind, encode},
};

/// One `candle`. Shared by reference, with what was made of it.
#[derive(Debug)]
pub(crate) struct CandleFrame {
    /// Whose candle it is.
    pub(crate) symbol: Symbol,
    /// How long it is.
    pub(crate) interval: CandleInterval,
    /// When it begins.
    pub(crate) start: Timestamp,
    /// Its time is over.
    pub(crate) closed: bool,
    message: ServerMessage,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
}

impl CandleFrame {
    /// Reads a message of `CANDLES`, or one about a running candle.
    pub(crate) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let data: CandleUpdate = serde_json::from_slice(body)?;
        Ok(Self {
            symbol: data.candle.symbol.clone(),
            interval: data.candle.interval,
            start: data.candle.start,
            closed: data.closed,
            message: ServerMessage::Candle { data },
            json: OnceLock::new(),
            msgpack: OnceLock::new(),
        })
    }

    /// The finished frame, header and all. A clone shares the bytes.
    pub(crate) fn bytes(&self, format: Format) -> &Bytes {
        match format {
            // Only a map with keys that are no strings cannot be JSON, and no message has one.
            Format::Json => self.json.get_or_init(|| {
                let text = serde_json::to_vec(&self.message).unwrap_or_default();
                encode::message(Kind::Text, &text)
            }),
            Format::Msgpack => self
                .msgpack
                .get_or_init(|| encode::message(Kind::Binary, &self.message.to_msgpack())),
        }
    }
}
