//! Which sequences of a stream are markers.

use std::collections::BTreeSet;

use lapin::Connection;

use super::{
    cursor::{Cursor, From, PREFETCH},
    scan::mark,
    wire::Content,
};
use crate::{BrokerError, topology::Stream};

/// The markers in a stream, by their offsets.
///
/// Every session that writes a marker notes it in the stream `<stream>.markers`; what was noted
/// since the last time is read with each note. Only a session that dies in between leaves a marker
/// that is not noted.
pub(super) struct Ledger {
    queue: String,
    markers: BTreeSet<u64>,
    /// The first offset of the ledger not read yet.
    next: u64,
}

/// The name of a stream's ledger.
pub(super) fn queue(stream: Stream) -> String {
    format!("{stream}.markers")
}

impl Ledger {
    /// A ledger of which nothing is read yet.
    pub(super) fn new(stream: Stream) -> Self {
        Self { queue: queue(stream), markers: BTreeSet::new(), next: 0 }
    }

    /// Notes a marker, and reads what others have noted. A note is itself a marker, of the ledger.
    pub(super) async fn note(
        &mut self,
        connection: &Connection,
        marker: u64,
    ) -> Result<(), BrokerError> {
        let from = From::Offset(self.next);
        let mut cursor = Cursor::open(connection, &self.queue, from, PREFETCH).await?;
        let own = mark(&cursor, &self.queue, &marker.to_string()).await?;
        loop {
            let entry = cursor.read().await?;
            let Content::Marker { id, note } = entry.content else { continue };
            self.markers.extend(note.parse::<u64>());
            self.next = entry.offset + 1;
            if id == own {
                return Ok(());
            }
        }
    }

    /// How many markers are among these offsets. The older ones are forgotten.
    pub(super) fn count(&mut self, first: u64, last: u64) -> u64 {
        self.markers = self.markers.split_off(&first);
        self.markers.range(..=last).count() as u64
    }
}
