//! A message for many clients, encoded once for all who receive it.

use std::sync::OnceLock;

use bytes::Bytes;
use schemas::ServerMessage;

use crate::{
    hub::Format,
    wire::{Kind, encode},
};

/// A message, and the finished frames that were made of it.
#[derive(Debug)]
pub(crate) struct Encoded {
    message: ServerMessage,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
}

impl Encoded {
    pub(crate) fn new(message: ServerMessage) -> Self {
        Self { message, json: OnceLock::new(), msgpack: OnceLock::new() }
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
