//! What a source fetched while the broker was away, on disk, in order.
//!
//! A spool is a folder of segments, which are written one after the other and deleted when the
//! broker has all that is in them. How far it has what is in the first is not written down: whoever
//! opens the spool again asks the broker for the newest message id, and goes on behind that.
//!
//! **Durability.** [`Spool::append`] hands the records to the operating system, so that a process
//! that is killed loses none; [`Spool::sync`] (`fdatasync`, once for all that came meanwhile) returns
//! when a machine that dies loses none, either. A record that was cut off while it was written is cut
//! away and counted when the spool is opened.

mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use metrics::Gauge;
use schemas::{RawTick, Source, subject};
use tracing::{error, info, warn};

use self::segment::{Reader, Segment};
use crate::{metrics as names, source};

/// A segment that is so large is followed by another.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Where the spools of all sources are, and how large each may become.
#[derive(Debug, Clone)]
pub(crate) struct Spools {
    pub(crate) folder: PathBuf,
    /// In bytes; 0 is no spool.
    pub(crate) bound: u64,
}

impl Spools {
    /// The place of a source's spool, where it is to have one.
    pub(crate) fn place(&self, source: &dyn source::Source) -> Option<SpoolPlace> {
        let folder = self.folder.join(subject::key_of(source.name()));
        let place = SpoolPlace { folder, bound: self.bound };
        (self.bound > 0 && !source.can_wait()).then_some(place)
    }
}

/// Where the spool of a source is, and how large it may become.
#[derive(Debug, Clone)]
pub(crate) struct SpoolPlace {
    pub(crate) folder: PathBuf,
    /// In bytes.
    pub(crate) bound: u64,
}

/// The spool of one source.
pub(crate) struct Spool {
    source: Source,
    place: SpoolPlace,
    /// Held so that no other process writes here.
    _lock: File,
    segments: VecDeque<Segment>,
    /// The last segment, once this process has made it.
    writer: Option<File>,
    reader: Option<Reader>,
    /// How many records were confirmed, read and written, counted since the spool was opened, with
    /// what was in it then.
    confirmed: u64,
    read: u64,
    written: u64,
    newest_id: Option<String>,
    is_full: bool,
    bytes_gauge: Gauge,
    full_gauge: Gauge,
}

impl Spool {
    /// Opens the spool in this folder, with what an earlier process has left in it. An error of the
    /// kind `WouldBlock` is that another process has it open.
    pub(crate) fn open(place: &SpoolPlace, source: &Source) -> io::Result<Self> {
        let folder = &place.folder;
        std::fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock()?;
        let mut spool = Self {
            source: source.clone(),
            place: place.clone(),
            _lock: lock,
            segments: VecDeque::new(),
            writer: None,
            reader: None,
            confirmed: 0,
            read: 0,
            written: 0,
            newest_id: None,
            is_full: false,
            bytes_gauge: names::spool_bytes(source),
            full_gauge: names::spool_full(source),
        };
        for number in segment::numbers(folder)? {
            let found = segment::recover(folder, number, spool.written)?;
            if found.cut > 0 {
                names::spool_torn(source).increment(1);
                let bytes = found.cut;
                warn!(%source, segment = number, bytes, "a torn end of the spool was cut away");
            }
            spool.written = found.segment.end();
            if found.newest_id.is_some() {
                spool.newest_id = found.newest_id;
            }
            spool.bytes_gauge.increment(found.segment.bytes as f64);
            spool.segments.push_back(found.segment);
        }
        if spool.written > 0 {
            info!(%source, payloads = spool.written, "payloads were left in the spool");
        }
        Ok(spool)
    }

    /// Writes payloads behind what is there. After an error none of them is.
    pub(crate) fn append(&mut self, payloads: &[RawTick]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for payload in payloads {
            record::write(payload, &mut bytes)?;
        }
        let is_due = self.segments.back().is_none_or(|last| last.bytes >= SEGMENT_BYTES);
        if is_due || self.writer.is_none() {
            let number = self.segments.back().map_or(1, |last| last.number + 1);
            self.writer = Some(segment::create(&self.place.folder, number)?);
            self.segments.push_back(Segment { number, first: self.written, records: 0, bytes: 0 });
        }
        let (Some(writer), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Ok(());
        };
        if let Err(fault) = writer.write_all(&bytes) {
            // What was written of it would be in the way of what comes next.
            writer.set_len(segment.bytes)?;
            return Err(fault);
        }
        segment.bytes += bytes.len() as u64;
        segment.records += payloads.len() as u64;
        self.written = segment.end();
        self.bytes_gauge.increment(bytes.len() as f64);
        if let Some(newest) = payloads.last() {
            self.newest_id = Some(newest.id.clone());
        }
        Ok(())
    }

    /// Returns when the disk has what was appended.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let writer = writer.try_clone()?;
        let synced = tokio::task::spawn_blocking(move || writer.sync_data()).await;
        synced.unwrap_or_else(|gone| Err(io::Error::other(gone)))
    }

    /// The next records that were not read, at most so many.
    pub(crate) fn read(&mut self, at_most: usize) -> io::Result<Vec<RawTick>> {
        let mut payloads = Vec::new();
        while payloads.len() < at_most
            && let Some(segment) = self.segments.iter().find(|segment| self.read < segment.end())
        {
            let reader = match self.reader.take() {
                Some(reader) if reader.number == segment.number => self.reader.insert(reader),
                _ => self.reader.insert(Reader::open(&self.place.folder, segment, self.read)?),
            };
            payloads.push(reader.next()?.payload);
            self.read += 1;
        }
        Ok(payloads)
    }

    /// What was read and not confirmed will be read again.
    pub(crate) fn rewind(&mut self) {
        self.read = self.confirmed;
        self.reader = None;
    }

    /// The broker has so many of the oldest records more.
    pub(crate) fn confirm(&mut self, records: u64) {
        self.confirmed = (self.confirmed + records).min(self.written);
        while let Some(oldest) = self.segments.front()
            && oldest.end() <= self.confirmed
        {
            if let Err(fault) =
                std::fs::remove_file(segment::path(&self.place.folder, oldest.number))
            {
                let source = &self.source;
                warn!(%source, %fault, "a segment of the spool that is published stays");
            }
            self.bytes_gauge.decrement(oldest.bytes as f64);
            self.segments.pop_front();
        }
        if self.segments.is_empty() {
            self.writer = None;
        }
        if self.read < self.confirmed {
            self.rewind();
        }
        self.tell_full();
    }

    /// How many records there are up to the one with this id, where it is among them: a broker that
    /// has that one has all before it. It is looked for in the oldest segment and `behind` records
    /// more, which is as far as the broker may have got. Nothing counts as read afterwards.
    pub(crate) fn up_to(&mut self, id: &str, behind: u64) -> io::Result<Option<u64>> {
        self.rewind();
        let end = self.segments.front().map_or(0, Segment::end) + behind;
        let mut records = 0;
        let mut found = None;
        while found.is_none() && self.has_unread() && self.read < end {
            let payloads = self.read(64)?;
            found = payloads.iter().position(|payload| payload.id == id);
            records += found.map_or(payloads.len(), |index| index + 1) as u64;
        }
        self.rewind();
        Ok(found.map(|_| records))
    }

    /// Whether everything is confirmed.
    pub(crate) fn is_empty(&self) -> bool {
        self.confirmed == self.written
    }

    /// Whether there is something that was not read.
    pub(crate) fn has_unread(&self) -> bool {
        self.read < self.written
    }

    /// The id of the newest record, while there is one.
    pub(crate) fn newest_id(&self) -> Option<&str> {
        self.newest_id.as_deref().filter(|_| !self.is_empty())
    }

    /// Whether it takes no more. What is appended at once may pass the bound.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.place.bound
    }

    /// Tells whether it is full, in the metric, and once in the log.
    pub(crate) fn tell_full(&mut self) {
        let (is_full, bytes) = (self.is_full(), self.bytes());
        if is_full == self.is_full {
            return;
        }
        self.is_full = is_full;
        let source = &self.source;
        if is_full {
            self.full_gauge.increment(1);
            error!(%source, bytes, "the spool is full: the source is paused until the broker is back");
        } else {
            self.full_gauge.decrement(1);
            info!(%source, bytes, "the spool has room again");
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.bytes_gauge.decrement(self.bytes() as f64);
        if self.is_full {
            self.full_gauge.decrement(1);
        }
    }
}
