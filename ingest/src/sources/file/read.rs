//! Reading a file from its place, on a thread of its own.

use std::{io, path::PathBuf};

use bytes::Bytes;
use schemas::{Format, Symbol};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;

use super::{
    layout::{Header, Layout, Names},
    open::{Content, open},
    rows::Rows,
};

/// How many rows, or bytes of them, are handed over at once.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// One row of the file.
pub(super) struct Row {
    /// Its message id.
    pub(super) id: String,
    /// Its event time.
    pub(super) event_ms: Option<i64>,
    /// Its symbol.
    pub(super) symbol: Option<Symbol>,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

/// A file to read.
#[derive(Debug, Clone)]
pub(super) struct Replayed {
    pub(super) path: PathBuf,
    pub(super) names: Names,
    /// The header line of a CSV file that has none.
    pub(super) header: Option<String>,
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

    /// Finds the place to go on from: after the row with the id `resume`, if the file has it, and
    /// otherwise at the first one. Stops looking when it is not `wanted` any more.
    pub(super) fn begin(
        &self,
        resume: Option<&str>,
        wanted: impl Fn() -> bool,
    ) -> Result<Reader, FileError> {
        let mut reader = self.reader()?;
        let Some((resume, rows)) = resume.and_then(|id| Some((id, rows_until(id)?))) else {
            return Ok(reader);
        };
        while reader.rows_read < rows && wanted() && reader.next_bytes()?.is_some() {}
        if reader.rows_read == rows && reader.id() == resume {
            return Ok(reader);
        }
        self.reader()
    }

    fn reader(&self) -> Result<Reader, FileError> {
        let (layout, rows) = self.open()?;
        let content = Sha256::digest(layout.columns().unwrap_or_default()).into();
        Ok(Reader { file: self.clone(), layout, rows, rows_read: 0, content })
    }

    fn open(&self) -> Result<(Layout, Rows<Content>), FileError> {
        let cannot_be_read = |fault: io::Error| self.fault(format!("cannot be read: {fault}"));
        let content = open(&self.path).map_err(cannot_be_read)?;
        if self.names.format == Format::Ndjson {
            return Ok((Layout::Ndjson(self.names.clone()), Rows::lines(content)));
        }
        let mut rows = Rows::csv(content, self.names.delimiter);
        let line = match &self.header {
            Some(header) => Some(header.clone().into()),
            None => rows.next().map_err(cannot_be_read)?,
        };
        let line = line.ok_or_else(|| self.fault("is empty, without even a header line"))?;
        let header = Header::parse(&line, &self.names, self.paced)
            .map_err(|fault| self.fault(format!("cannot be played: {fault}")))?;
        Ok((Layout::Csv(header), rows))
    }

    fn fault(&self, fault: impl Into<String>) -> FileError {
        FileError { path: self.path.clone(), fault: fault.into() }
    }
}

/// A file, read up to some row.
pub(super) struct Reader {
    file: Replayed,
    layout: Layout,
    rows: Rows<Content>,
    rows_read: u64,
    /// The hash of what is read: of the header line if there is one, chained with each row.
    content: [u8; 32],
}

impl Reader {
    /// The header line, where there is one.
    pub(super) fn columns(&self) -> Option<&str> {
        self.layout.columns()
    }

    /// How many rows are behind it.
    pub(super) fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// Hands over the rows that follow; blocks. What can be read before a failure is handed over,
    /// too. Stops early where nobody wants them any more.
    pub(super) fn read(mut self, batches: &Sender<Vec<Row>>) -> Result<(), FileError> {
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        let mut bytes = 0;
        let end = loop {
            let row = match self.next_bytes() {
                Ok(Some(row)) => row,
                end => break end.map(drop),
            };
            bytes += row.len();
            let (symbol, event_ms) = self.layout.read(&row, self.file.paced);
            batch.push(Row { id: self.id(), event_ms, symbol, bytes: row });
            if batch.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ROWS));
                bytes = 0;
                if batches.blocking_send(full).is_err() {
                    return Ok(());
                }
            }
        };
        // Nobody wants them any more, or they are the last ones: both is the end.
        let _ = batches.blocking_send(batch);
        end
    }

    fn next_bytes(&mut self) -> Result<Option<Bytes>, FileError> {
        let row = self.rows.next().map_err(|fault| {
            self.file.fault(format!("cannot be read behind row {}: {fault}", self.rows_read))
        })?;
        if let Some(row) = &row {
            let chained = Sha256::new().chain_update(self.content).chain_update(row);
            self.content = chained.finalize().into();
            self.rows_read += 1;
        }
        Ok(row)
    }

    /// The message id of the row read last, `file:<hash>:<number>`: the first 16 hexadecimal digits
    /// of the hash of the file up to and including the row, and its number from 0 on. So a file
    /// that has grown goes on, and one that begins differently is another one.
    fn id(&self) -> String {
        let [a, b, c, d, e, f, g, h, ..] = self.content;
        let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        format!("file:{hash:016x}:{}", self.rows_read.saturating_sub(1))
    }
}

/// How many rows there are up to the one of this id, if it can be one of a file.
fn rows_until(id: &str) -> Option<u64> {
    let (_hash, number) = id.strip_prefix("file:")?.split_once(':')?;
    number.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_how_many_rows_there_are_up_to_it() {
        assert_eq!(rows_until("file:0123456789abcdef:0"), Some(1));
        assert_eq!(rows_until("file:0123456789abcdef:41"), Some(42));
        for other in ["file:0123456789abcdef:x", "sim:1:2:3", "file:7", ""] {
            assert_eq!(rows_until(other), None, "{other:?}");
        }
    }
}
