//! A candle as finished WebSocket frames, encoded once for all who receive it.

use bytes::Bytes;
use jiff::Timestamp;
use schemas::{CandleInterval, CandleUpdate, ServerMessage, Symbol};

use crate::{encoded::Encoded, hub::Format};

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
    encoded: Encoded,
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
            encoded: Encoded::new(ServerMessage::Candle { data }),
        })
    }

    /// The finished frame, header and all. A clone shares the bytes.
    pub(crate) fn bytes(&self, format: Format) -> &Bytes {
        self.encoded.bytes(format)
    }
}
