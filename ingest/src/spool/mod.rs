//! What a source fetched while the broker was away, on disk, in order.
//!
//! A spool is a folder of segments, which are written one after the other and deleted when the
//! broker has all that is in them. How far it has what is in the first is not written down: whoever
//! opens the spool again asks the broker for the newest messages, and goes on behind those.
//!
//! Several processes may have the same data directory and fetch parts of the same source: whoever
//! comes to a spool that is open takes a folder of its own in it, and whoever opens one also takes what
//! dead processes have left in the others.
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
    path::{Path, PathBuf},
};

use metrics::Gauge;
use schemas::{RawTick, Source, subject};
use tracing::{error, info, warn};

use self::segment::{Reader, Segment};
use crate::{metrics as names, source};

/// A segment that is so large is followed by another.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// How many processes have the spool of a source open in the same data directory, at most.
const MAX_PROCESSES: u32 = 64;

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

impl SpoolPlace {
    /// Whether an earlier process has left something here.
    pub(crate) fn has_left(&self) -> bool {
        self.folders().any(|folder| segment::numbers(&folder).is_ok_and(|found| !found.is_empty()))
    }

    /// The folders that there may be: one for each process that has the spool open.
    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let others = (2..=MAX_PROCESSES).map(|number| self.folder.join(number.to_string()));
        std::iter::once(self.folder.clone()).chain(others)
    }

    /// The first folder that no process has.
    fn take(&self) -> io::Result<(PathBuf, File)> {
        for folder in self.folders() {
            match lock(&folder) {
                Ok(lock) => return Ok((folder, lock)),
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(io::Error::other(format!("{MAX_PROCESSES} processes have it open")))
    }

    /// Moves what is in folders that no process has behind what is in ours.
    fn collect(&self, ours: &Path) -> io::Result<()> {
        let mut newest = segment::numbers(ours)?.last().copied().unwrap_or(0);
        for folder in self.folders().filter(|folder| folder != ours && folder.is_dir()) {
            let _lock = match lock(&folder) {
                Ok(lock) => lock,
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => continue,
                Err(fault) => return Err(fault),
            };
            for number in segment::numbers(&folder)? {
                newest += 1;
                std::fs::rename(segment::path(&folder, number), segment::path(ours, newest))?;
            }
        }
        File::open(ours)?.sync_all()
    }
}

/// The folder for us alone, made where there is none. An error of the kind `WouldBlock` is that
/// another process has it.
fn lock(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.try_lock()?;
    Ok(lock)
}

/// The spool of one source.
pub(crate) struct Spool {
    source: Source,
    /// In bytes.
    bound: u64,
    folder: PathBuf,
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
    /// Opens the spool in this place, with what earlier processes have left in it.
    pub(crate) fn open(place: &SpoolPlace, source: &Source) -> io::Result<Self> {
        let (folder, lock) = place.take()?;
        place.collect(&folder)?;
        let mut spool = Self {
            source: source.clone(),
            bound: place.bound,
            folder,
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
        for number in segment::numbers(&spool.folder)? {
            let found = segment::recover(&spool.folder, number, spool.written)?;
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
            self.writer = Some(segment::create(&self.folder, number)?);
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
                _ => self.reader.insert(Reader::open(&self.folder, segment, self.read)?),
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
        self.confirmed = self.confirmed.saturating_add(records).min(self.written);
        while let Some(oldest) = self.segments.front()
            && oldest.end() <= self.confirmed
        {
            if let Err(fault) = std::fs::remove_file(segment::path(&self.folder, oldest.number)) {
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

    /// Shows the records that the broker may have, oldest first: those of the oldest segment, because
    /// nobody has written down how far it has them, and `behind` more. Nothing counts as read
    /// afterwards.
    pub(crate) fn look_through(
        &mut self,
        behind: u64,
        mut look: impl FnMut(&RawTick),
    ) -> io::Result<()> {
        self.rewind();
        let end = self.segments.front().map_or(0, Segment::end) + behind;
        while self.has_unread() && self.read < end {
            self.read(64)?.iter().for_each(&mut look);
        }
        self.rewind();
        Ok(())
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
        self.bytes() >= self.bound
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
