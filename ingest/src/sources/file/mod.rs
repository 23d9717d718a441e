//! The replay of a CSV file, plain or compressed with gzip, in the rhythm of its event times.
//!
//! Every row is published as its exact bytes; the header line goes along in a message header. The
//! id of a row is made of the content of the file up to it, so that a replay goes on where the
//! stream ends: playing the file that was played last again adds nothing, or what was appended to
//! it meanwhile.

mod fields;
mod header;
mod read;
mod rows;
mod speed;

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use schemas::{Format, RawTick, Source as Name};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::info;

use self::{
    read::{FileError, Replayed, Row},
    speed::{Pacer, Speed},
};
use crate::{
    config::{ConfigError, FileConfig},
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
    /// Opens the file, to see that it can be played.
    pub(super) fn new(config: &FileConfig) -> Result<Self, ConfigError> {
        if config.path.is_empty() {
            return Err(ConfigError::new("file.path", "no file is named"));
        }
        let speed: Speed =
            config.speed.parse().map_err(|fault| ConfigError::new("file.speed", fault))?;
        let file = Replayed { path: PathBuf::from(&config.path), paced: speed != Speed::Max };
        file.check().map_err(|fault| ConfigError::new("file.path", fault))?;
        Ok(Self { name: super::source_name("file"), file, speed })
    }
}

#[async_trait]
impl Source for Replay {
    fn name(&self) -> &Name {
        &self.name
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
        let (columns, first) = (reader.columns().to_owned(), reader.rows_read());
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
                    outlet.send(self.tick(&columns, row)).await;
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
    fn tick(&self, columns: &str, row: Row) -> RawTick {
        RawTick {
            id: row.id,
            source: self.name.clone(),
            symbol: row.symbol,
            received_at: Timestamp::now(),
            content_type: "text/csv".to_owned(),
            format: Format::CsvRow,
            columns: Some(columns.to_owned()),
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
mod tests {
    use std::io::{Read, Write};

    use schemas::Symbol;

    use super::*;
    use crate::testing::{bodies, start};

    const FILE: &str = "ts_ms,symbol,price,size,exchange,conditions\r\n\
        1381152600000,IBM,184.21,100,P,\"@, T\"\r\n\
        1381152600000,IBM,184.21,100,P,\r\n\
        1381152600500,,184.22,,,\r\n\
        1381152602000,BRK.B,1.0,1,N,\r\n";

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn replay(file: &tempfile::NamedTempFile, speed: &str) -> Result<Replay, ConfigError> {
        let path = file.path().to_str().unwrap().to_owned();
        Replay::new(&FileConfig { path, speed: speed.to_owned() })
    }

    async fn played(replay: Replay, resume: Option<&str>) -> Vec<RawTick> {
        let (ticks, end) = start(replay, resume).rest().await;
        end.unwrap();
        ticks
    }

    #[tokio::test]
    async fn every_row_is_published_as_its_bytes_with_its_columns() {
        let file = file(FILE.as_bytes());
        let ticks = played(replay(&file, "max").unwrap(), None).await;
        let rows: Vec<_> = FILE.lines().skip(1).collect();
        assert_eq!(bodies(&ticks), rows);
        for tick in &ticks {
            assert_eq!(tick.columns.as_deref(), FILE.lines().next());
            assert_eq!((tick.format, tick.content_type.as_str()), (Format::CsvRow, "text/csv"));
        }
        let symbols: Vec<_> = ticks.iter().map(|tick| tick.symbol.clone()).collect();
        let (ibm, brk) = (Symbol::new("IBM").ok(), Symbol::new("BRK.B").ok());
        assert_eq!(symbols, [ibm.clone(), ibm, None, brk]);
        let mut ids: Vec<_> = ticks.into_iter().map(|tick| tick.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 4, "equal rows are still two events");
    }

    #[tokio::test]
    async fn a_compressed_file_plays_the_same_rows() {
        let (plain, packed) = (file(FILE.as_bytes()), file(&gz(FILE.as_bytes())));
        let plain = played(replay(&plain, "max").unwrap(), None).await;
        let packed = played(replay(&packed, "max").unwrap(), None).await;
        assert_eq!(bodies(&plain), bodies(&packed));
        assert!(plain.iter().zip(&packed).all(|(plain, packed)| plain.id == packed.id));
        // Several members, as `cat a.gz b.gz` makes them, and a byte order mark.
        let (head, tail) = FILE.as_bytes().split_at(90);
        let parts = [gz(b"\xEF\xBB\xBF"), gz(head), gz(tail)].concat();
        let parts = played(replay(&file(&parts), "max").unwrap(), None).await;
        assert_eq!(parts.len(), plain.len());
        assert!(plain.iter().zip(&parts).all(|(plain, part)| plain.id == part.id));
    }

    #[tokio::test]
    async fn a_file_that_has_grown_goes_on_and_one_that_was_replaced_begins() {
        let short = played(replay(&file(FILE.as_bytes()), "max").unwrap(), None).await;
        let last = Some(short[3].id.as_str());
        let again = played(replay(&file(FILE.as_bytes()), "max").unwrap(), last).await;
        assert!(again.is_empty());
        let grown = file(format!("{FILE}1381152603000,IBM,1,1,N,\r\n").as_bytes());
        let rest = played(replay(&grown, "max").unwrap(), last).await;
        assert_eq!(bodies(&rest), ["1381152603000,IBM,1,1,N,"]);
        for replaced in [FILE.replacen("184.21", "184.20", 1), FILE.replacen("size", "lots", 1)] {
            let replaced = file(replaced.as_bytes());
            let all = played(replay(&replaced, "max").unwrap(), last).await;
            assert_eq!(all.len(), 4);
            assert!(all.iter().all(|tick| short.iter().all(|old| old.id != tick.id)));
        }
        let header = file(b"ts_ms,symbol,price\n");
        assert!(played(replay(&header, "1x").unwrap(), last).await.is_empty());
    }

    #[tokio::test]
    async fn it_resumes_after_the_last_row_that_is_stored() {
        let file = file(FILE.as_bytes());
        let all = played(replay(&file, "max").unwrap(), None).await;
        for last in 0..all.len() {
            let rest = played(replay(&file, "max").unwrap(), Some(&all[last].id)).await;
            let ids = |ticks: &[RawTick]| ticks.iter().map(|t| t.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&rest), ids(&all[last + 1..]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_come_in_the_rhythm_of_their_event_times() {
        for (speed, ms) in [("1x", [0, 0, 500, 2_000]), ("10x", [0, 0, 50, 200])] {
            let file = file(FILE.as_bytes());
            let mut running = start(replay(&file, speed).unwrap(), None);
            running.next().await;
            let begin = Instant::now();
            for ms in &ms[1..] {
                running.next().await;
                let late = begin.elapsed().as_millis() - ms;
                assert!(late <= 2, "{late} ms late at {speed}");
            }
        }
    }

    #[tokio::test]
    async fn a_row_that_is_too_large_is_told_and_the_next_one_is_played() {
        let large = "x".repeat(600 * 1024);
        let file = file(format!("symbol,price\nA,{large}\nB,1\n").as_bytes());
        let running = start(replay(&file, "max").unwrap(), None);
        let status = std::sync::Arc::clone(&running.status);
        let (ticks, end) = running.rest().await;
        end.unwrap();
        assert_eq!(bodies(&ticks), ["B,1"]);
        assert!(ticks[0].id.ends_with(":1"));
        let error = status.snapshot().last_error.unwrap();
        assert!(error.ends_with(":0 has more than 524288 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_breaks_off_is_told_after_what_can_be_read() {
        let rows: String = (0..50_000).map(|n| format!("{n},IBM,{}\n", n * 7919)).collect();
        let mut packed = gz(format!("ts_ms,symbol,price\n{rows}").as_bytes());
        packed.truncate(packed.len() / 2);
        let mut readable = Vec::new();
        let _ = flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut readable);
        let readable = readable.iter().filter(|&&byte| byte == b'\n').count() - 1;
        let broken = file(&packed);
        let (ticks, end) = start(replay(&broken, "max").unwrap(), None).rest().await;
        assert!(readable > 1_000 && ticks.len() == readable, "{} of {readable}", ticks.len());
        assert_eq!(end.unwrap_err().kind, ErrorKind::File);
    }

    #[test]
    fn a_file_that_cannot_be_played_is_one_line_that_says_what_and_where() {
        for (content, fault) in [
            ("", "is empty, without even a header line"),
            ("a,b\n", "has no column \"symbol\""),
            ("symbol,price\n", "has no column \"ts_ms\", which only the speed `max` does without"),
        ] {
            let file = file(content.as_bytes());
            let error = replay(&file, "1x").err().unwrap().to_string();
            assert!(error.starts_with("ingest.file.path: \"/"), "{error}");
            assert!(error.ends_with(fault) && !error.contains('\n'), "{error}");
        }
        let file = file(b"symbol,ts_ms\n");
        let error = replay(&file, "fast").err().unwrap().to_string();
        assert!(error.starts_with("ingest.file.speed: \"fast\" is not a speed"), "{error}");
        replay(&file, "1x").unwrap();
    }
}
