//! What the server says to one client beside the prices, in the client's format.

use std::sync::Arc;

use bytes::Bytes;
use schemas::{ClientError, ServerMessage};

use crate::{
    hub::{Format, Pipe},
    metrics,
    wire::{Compression, Kind, deflate, encode},
};

/// Says things to one client. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    pipe: Arc<Pipe>,
    compression: Option<Compression>,
}

impl Voice {
    pub(super) fn new(pipe: Arc<Pipe>, compression: Option<Compression>) -> Self {
        Self { pipe, compression }
    }

    pub(super) fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    pub(super) fn message(&self, message: &ServerMessage) {
        self.pipe.send(self.encode(message));
    }

    pub(super) fn error(&self, error: ClientError) {
        metrics::client_error(error.code);
        self.message(&ServerMessage::Error(error));
    }

    /// Something that does not count as having said anything.
    pub(super) fn aside(&self, message: &ServerMessage) {
        self.pipe.send_aside(self.encode(message));
    }

    pub(super) fn encode(&self, message: &ServerMessage) -> Bytes {
        let (kind, message) = match self.pipe.format {
            // Only a map with keys that are no strings cannot be JSON, and no message has one.
            Format::Json => (Kind::Text, serde_json::to_vec(message).unwrap_or_default()),
            Format::Msgpack => (Kind::Binary, message.to_msgpack()),
        };
        let may_be_deflated = self.compression.is_some_and(|it| it.allows(message.len()));
        match may_be_deflated.then(|| deflate::deflate(&message, 1)).flatten() {
            Some(deflated) => encode::compressed(kind, &deflated),
            None => encode::message(kind, &message),
        }
    }
}
