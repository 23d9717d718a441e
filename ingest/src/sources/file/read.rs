//! Reading a replay file from its place, on a thread of its own.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use schemas::Symbol;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;

use super::{header::Header, rows::Rows};
use crate::sources::polling::first_digits;

/// How many rows, or bytes of them, are handed over at once.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// One row of the file.
pub(super) struct Row {
    /// Its number among the data rows, from 0 on.
    pub(super) number: u64,
    /// Its event time.
    pub(super) event_ms: Option<i64>,
    /// Its symbol.
    pub(super) symbol: Option<Symbol>,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

/// What there is to know before the first row.
pub(super) struct Beginning {
    /// What tells this file from any other.
    pub(super) fingerprint: String,
    /// Its columns.
    pub(super) header: Header,
    /// The number of the first row to play.
    pub(super) first: u64,
}

/// A file to read.
#[derive(Debug, Clone)]
pub(super) struct Replayed {
    pub(super) path: PathBuf,
    /// Whether event times are needed.
    pub(super) paced: bool,
}

/// What is wrong with a file: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} {fault}")]
pub(super) struct FileError {
    path: PathBuf,
    fault: String,
}

impl Replayed {
    /// Whether it can be played at all.
    pub(super) fn check(&self) -> Result<(), FileError> {
        self.open().map(drop)
    }

    /// Reads the whole file once for its fingerprint, and finds the place to go on from.
    pub(super) fn begin(&self, resume: Option<&str>) -> Result<(Beginning, Reader), FileError> {
        let fingerprint = fingerprint(&self.path).map_err(|fault| self.cannot_be_read(&fault))?;
        let first = next_row(resume, &fingerprint);
        let (header, rows) = self.open()?;
        let beginning = Beginning { fingerprint, header: header.clone(), first };
        Ok((beginning, Reader { file: self.clone(), header, rows, first }))
    }

    fn open(&self) -> Result<(Header, Rows<Box<dyn Read + Send>>), FileError> {
        let cannot_be_read = |fault| self.cannot_be_read(&fault);
        let mut rows = Rows::new(open(&self.path).map_err(cannot_be_read)?);
        let line = rows.next().map_err(cannot_be_read)?;
        let line = line.ok_or_else(|| self.fault("is empty, without even a header line"))?;
        let header = Header::parse(&line, self.paced)
            .map_err(|fault| self.fault(format!("cannot be played: {fault}")))?;
        Ok((header, rows))
    }

    fn cannot_be_read(&self, fault: &io::Error) -> FileError {
        self.fault(format!("cannot be read: {fault}"))
    }

    fn fault(&self, fault: impl Into<String>) -> FileError {
        FileError { path: self.path.clone(), fault: fault.into() }
    }
}

/// A file at its first data row.
pub(super) struct Reader {
    file: Replayed,
    header: Header,
    rows: Rows<Box<dyn Read + Send>>,
    first: u64,
}

impl Reader {
    /// Hands over all rows from the first one to play; blocks. Stops early where nobody wants
    /// them any more.
    pub(super) fn read(mut self, batches: &Sender<Vec<Row>>) -> Result<(), FileError> {
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        let mut bytes = 0;
        let mut number = 0;
        while let Some(row) = self.next_row()? {
            if number >= self.first {
                bytes += row.len();
                batch.push(Row {
                    number,
                    event_ms: self.header.event_ms(&row),
                    symbol: self.header.symbol(&row),
                    bytes: row,
                });
            }
            number += 1;
            if batch.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ROWS));
                bytes = 0;
                if batches.blocking_send(full).is_err() {
                    return Ok(());
                }
            }
        }
        // Nobody wants them any more, or they are the last ones: both is the end.
        let _ = batches.blocking_send(batch);
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<Bytes>, FileError> {
        self.rows.next().map_err(|fault| self.file.cannot_be_read(&fault))
    }
}

/// Opens a file; gzip is told by its first two bytes (RFC 1952).
fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    let mut magic = Vec::with_capacity(2);
    file.by_ref().take(2).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(if magic == [0x1F, 0x8B] {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    })
}

/// The first 16 hexadecimal digits of the SHA-256 of the file as it is stored.
fn fingerprint(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(first_digits(hash.finalize().as_slice())),
            Ok(read) => hash.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The message id of a row.
pub(super) fn row_id(fingerprint: &str, number: u64) -> String {
    format!("file:{fingerprint}:{number}")
}

/// The row after the one with the id `resume`; 0 where that is of another file.
fn next_row(resume: Option<&str>, fingerprint: &str) -> u64 {
    resume
        .and_then(|id| id.strip_prefix("file:")?.strip_prefix(fingerprint)?.strip_prefix(':'))
        .and_then(|number| number.parse::<u64>().ok()?.checked_add(1))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_after_the_row_of_its_own_id() {
        let fingerprint = "0123456789abcdef";
        assert_eq!(next_row(Some(&row_id(fingerprint, 0)), fingerprint), 1);
        assert_eq!(next_row(Some(&row_id(fingerprint, 41)), fingerprint), 42);
        assert_eq!(next_row(None, fingerprint), 0);
        for other in ["file:fedcba9876543210:7", "file:0123456789abcdef:x", "sim:1:2:3", ""] {
            assert_eq!(next_row(Some(other), fingerprint), 0, "{other:?}");
        }
    }
}
