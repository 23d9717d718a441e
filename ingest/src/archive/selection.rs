//! Which records are read back, and in which order.

use jiff::Timestamp;

use super::RawRecord;

/// Which records; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this source.
    pub source: Option<String>,
    /// About this symbol alone; payloads of many symbols are never found by one.
    pub symbol: Option<String>,
    /// Received at this time or later.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
}

/// The order of what is read: by the time of receipt, then by id, so that it is the same each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    OldestFirst,
    /// The newest first.
    NewestFirst,
}

/// A record's place in an [`Order`]; the older is the smaller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was received.
    pub received_at: Timestamp,
    /// Its id.
    pub id: String,
}

impl From<&RawRecord> for Place {
    fn from(record: &RawRecord) -> Self {
        Self { received_at: record.received_at, id: record.id.clone() }
    }
}
