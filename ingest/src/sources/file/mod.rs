//! The replay of a file, CSV or NDJSON, plain or compressed, in the rhythm of its event times.
//!
//! Every row is published as its exact bytes; the header line of a CSV file goes along in a message
//! header. What the columns or fields are called may be configured (`[[records]]`). The id of a row is
//! made of the content of the file up to it, so that a replay goes on behind the row that was stored
//! last, whether the stream still has it or not: playing the file that was played last again adds
//! nothing, or what was appended to it meanwhile. A file that differs before that row is another one,
//! whatever its name, and is played from its beginning.

mod fields;
mod layout;
mod open;
mod read;
mod rows;
mod speed;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::{Format, RawTick, Records, Source as Name};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::info;

use self::{
    layout::Names,
    read::{FileError, Replayed, Row},
    speed::{Pacer, Speed},
};
use crate::{
    config::{ConfigError, FileConfig, FileFormat},
    source::{ErrorKind, FetchError, Session, Source},
};

/// How many batches of rows are read ahead.
const READ_AHEAD: usize = 4;

/// The replay of a file.
pub(super) struct Replay {
    name: Name,
    file: Replayed,
    speed: Speed,
}

impl Replay {
    /// Opens the file, to see that it can be played. `records` is the mapping of its fields, if there
    /// is one.
    pub(super) fn new(config: &FileConfig, records: Option<&Records>) -> Result<Self, ConfigError> {
        if config.path.is_empty() {
            return Err(ConfigError::new("file.path", "no file is named"));
        }
        let speed: Speed =
            config.speed.parse().map_err(|fault| ConfigError::new("file.speed", fault))?;
        let path = PathBuf::from(&config.path);
        let format = format(config.format, &path);
        let file = Replayed {
            names: Names::new(format, records)
                .map_err(|fault| ConfigError::new("file", format!("its records: {fault}")))?,
            header: Some(config.header.clone()).filter(|header| !header.is_empty()),
            paced: speed != Speed::Max,
            path,
        };
        file.check().map_err(|fault| ConfigError::new("file.path", fault))?;
        Ok(Self { name: super::source_name("file"), file, speed })
    }
}

/// What is in the file: where nobody says it, its name does.
fn format(configured: FileFormat, path: &Path) -> Format {
    match configured {
        FileFormat::Csv => Format::CsvRow,
        FileFormat::Ndjson => Format::Ndjson,
        FileFormat::Auto => {
            let name = path.to_string_lossy().to_ascii_lowercase();
            let packed = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end));
            let name = packed.unwrap_or(&name);
            match name.ends_with(".ndjson") || name.ends_with(".jsonl") {
                true => Format::Ndjson,
                false => Format::CsvRow,
            }
        }
    }
}

#[async_trait]
impl Source for Replay {
    fn name(&self) -> &Name {
        &self.name
    }

    fn can_wait(&self) -> bool {
        true
    }

    fn is_played_once(&self) -> bool {
        true
    }

    fn url(&self) -> String {
        let absolute = std::path::absolute(&self.file.path).ok();
        absolute
            .and_then(|path| reqwest::Url::from_file_path(path).ok())
            .map_or_else(|| "file:".to_owned(), |url| url.to_string())
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { resume, mut outlet, .. } = session;
        let file = self.file.clone();
        let (sender, mut batches) = mpsc::channel(READ_AHEAD);
        let wanted = sender.clone();
        let beginning = blocking(move || file.begin(resume.as_deref(), || !wanted.is_closed()));
        let reader = beginning.await?;
        let (columns, first) = (reader.columns().map(str::to_owned), reader.rows_read());
        let reading = blocking(move || reader.read(&sender));
        let playing = async {
            let mut pacer = Pacer::new(self.speed);
            let mut rows = 0_u64;
            while let Some(batch) = batches.recv().await {
                for row in batch {
                    let now = Instant::now();
                    let due = row.event_ms.and_then(|event_ms| pacer.due(event_ms, now));
                    if let Some(due) = due.filter(|&due| due > now) {
                        sleep_until(due).await;
                    }
                    outlet.send(self.tick(columns.as_deref(), row)).await;
                    rows += 1;
                }
            }
            rows
        };
        let (read, rows) = tokio::join!(reading, playing);
        read?;
        let path = &self.file.path;
        if rows == 0 && first > 0 {
            info!(?path, rows = first, "the file was already played to its end");
        } else {
            info!(?path, first, rows, "the file is played to its end");
        }
        Ok(())
    }
}

impl Replay {
    fn tick(&self, columns: Option<&str>, row: Row) -> RawTick {
        let format = self.file.names.format;
        let content_type = match format {
            Format::Ndjson => "application/x-ndjson",
            _ => "text/csv",
        };
        RawTick {
            id: row.id,
            source: self.name.clone(),
            symbol: row.symbol,
            received_at: Timestamp::now(),
            content_type: content_type.to_owned(),
            format,
            columns: columns.map(str::to_owned),
            body: row.bytes,
        }
    }
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FetchError> {
    let fault = |fault: &dyn ToString| FetchError::new(ErrorKind::File, fault.to_string());
    spawn_blocking(work).await.map_err(|error| fault(&error))?.map_err(|error| fault(&error))
}

#[cfg(test)]
mod tests;
