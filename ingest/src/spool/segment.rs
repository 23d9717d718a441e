//! A segment: a file of records, written by one process from its beginning to its end.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Error, ErrorKind},
    path::{Path, PathBuf},
};

use super::record::{self, Record};

/// The name of a segment is its number and this; another form of records will have another.
const EXTENSION: &str = "spool1";

/// A segment and what is in it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Its first record, counted since the spool was opened.
    pub(super) first: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Segment {
    /// Behind its last record.
    pub(super) fn end(&self) -> u64 {
        self.first + self.records
    }
}

/// What an earlier process has left of a segment.
pub(super) struct Recovered {
    pub(super) segment: Segment,
    pub(super) newest_id: Option<String>,
    /// Bytes that were no whole record, and are gone.
    pub(super) cut: u64,
}

/// Where a segment is.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.{EXTENSION}"))
}

/// The numbers of the segments in a folder, in order.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == EXTENSION);
        let name = path.file_stem().filter(|_| is_segment).and_then(|name| name.to_str());
        numbers.extend(name.and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a new segment, to be written. Its name is on the disk, too.
pub(super) fn create(folder: &Path, number: u64) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).open(path(folder, number))?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// Looks through a segment whose first record has this place, and cuts away what is not whole.
pub(super) fn recover(folder: &Path, number: u64, first: u64) -> io::Result<Recovered> {
    let path = path(folder, number);
    let mut segment = Segment { number, first, records: 0, bytes: 0 };
    let mut newest_id = None;
    let mut file = BufReader::new(File::open(&path)?);
    loop {
        match record::read(&mut file) {
            Ok(Some(Record { payload, bytes })) => {
                segment.records += 1;
                segment.bytes += bytes;
                newest_id = Some(payload.id);
            }
            Ok(None) => break,
            Err(fault) if is_damage(&fault) => break,
            Err(fault) => return Err(fault),
        }
    }
    let cut = path.metadata()?.len().saturating_sub(segment.bytes);
    if cut > 0 {
        OpenOptions::new().write(true).open(&path)?.set_len(segment.bytes)?;
    }
    Ok(Recovered { segment, newest_id, cut })
}

fn is_damage(fault: &Error) -> bool {
    matches!(fault.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
}

/// Reads the records of a segment.
pub(super) struct Reader {
    pub(super) number: u64,
    file: BufReader<File>,
}

impl Reader {
    /// From this record on, which is in the segment.
    pub(super) fn open(folder: &Path, segment: &Segment, from: u64) -> io::Result<Self> {
        let file = BufReader::new(File::open(path(folder, segment.number))?);
        let mut reader = Self { number: segment.number, file };
        for _ in segment.first..from {
            reader.next()?;
        }
        Ok(reader)
    }

    /// The next record, which must be there.
    pub(super) fn next(&mut self) -> io::Result<Record> {
        record::read(&mut self.file)?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}
