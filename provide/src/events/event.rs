//! How an event is written.

use std::io::Write;

use bytes::Bytes;
use schemas::ServerMessage;

use crate::{
    hub::{Format, Frame},
    wire::encode,
};

/// Text on its way to one client. Writing into it does not fail.
#[derive(Debug, Default)]
pub(super) struct Events(Vec<u8>);

impl Events {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0).into()
    }

    /// A price; its sequence is the id of the event.
    pub(super) fn price(&mut self, frame: &Frame) {
        self.id(frame.sequence);
        self.data(encode::payload(frame.bytes(Format::Json)));
    }

    /// A price of the past, played at a pace.
    pub(super) fn replayed(&mut self, frame: &Frame) {
        self.id(frame.sequence);
        self.data(encode::payload(&frame.replayed(Format::Json)));
    }

    /// Anything else. It has no id: whoever comes back has to say which price was the last.
    pub(super) fn message(&mut self, message: &ServerMessage) {
        self.data(&serde_json::to_vec(message).unwrap_or_default());
    }

    /// What the client is to come back with.
    pub(super) fn id(&mut self, sequence: u64) {
        let _ = writeln!(self.0, "id: {sequence}");
    }

    /// When the client is to come back.
    pub(super) fn retry(&mut self, milliseconds: u64) {
        let _ = writeln!(self.0, "retry: {milliseconds}");
    }

    /// Something that no client sees, and that keeps the connection.
    pub(super) fn comment(&mut self, text: &str) {
        let _ = write!(self.0, ": {text}\n\n");
    }

    /// JSON that stands on one line.
    fn data(&mut self, json: &[u8]) {
        self.0.extend_from_slice(b"data: ");
        self.0.extend_from_slice(json);
        self.0.extend_from_slice(b"\n\n");
    }
}
