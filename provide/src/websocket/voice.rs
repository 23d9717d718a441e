//! What the server says to one client beside the prices, in the client's format.

use std::sync::Arc;

use bytes::Bytes;
use schemas::{ClientError, ServerMessage};

use crate::{
    hub::{Format, Pipe},
    metrics,
    wire::{Kind, encode},
};

/// Says things to one client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Voice(Arc<Pipe>);

impl Voice {
    pub(super) fn new(pipe: Arc<Pipe>) -> Self {
        Self(pipe)
    }

    pub(super) fn pipe(&self) -> &Arc<Pipe> {
        &self.0
    }

    pub(super) fn message(&self, message: &ServerMessage) {
        self.0.send(self.encode(message));
    }

    pub(super) fn error(&self, error: ClientError) {
        metrics::client_error(error.code);
        self.message(&ServerMessage::Error(error));
    }

    /// Something that does not count as having said anything.
    pub(super) fn aside(&self, message: &ServerMessage) {
        self.0.send_aside(self.encode(message));
    }

    pub(super) fn encode(&self, message: &ServerMessage) -> Bytes {
        match self.0.format {
            // Only a map with keys that are no strings cannot be JSON, and no message has one.
            Format::Json => {
                encode::message(Kind::Text, &serde_json::to_vec(message).unwrap_or_default())
            }
            Format::Msgpack => encode::message(Kind::Binary, &message.to_msgpack()),
        }
    }
}
