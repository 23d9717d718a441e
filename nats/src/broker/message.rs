//! Messages on their way to a broker and back.

use bytes::Bytes;
use jiff::Timestamp;

use super::Headers;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Where it goes; the stream is the one whose subjects match.
    pub subject: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// Its place in the stream, from 1 on, growing.
    pub sequence: u64,
    /// When the broker stored it.
    pub stored_at: Timestamp,
}

impl Message {
    /// The first value of the header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}
