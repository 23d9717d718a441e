//! Messages on their way to a broker and back.

use bytes::Bytes;
use jiff::Timestamp;

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
    /// Names and values, in the order they were written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Its place in the stream, from 1 on, growing.
    pub sequence: u64,
    /// When the broker stored it.
    pub stored_at: Timestamp,
}

impl Message {
    /// The value of the header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
