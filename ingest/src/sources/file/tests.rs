//! Files as they are played.

use std::io::Write;

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

fn zst(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn replay(file: &tempfile::NamedTempFile, speed: &str) -> Result<Replay, ConfigError> {
    let path = file.path().to_str().unwrap().to_owned();
    Replay::new(&FileConfig { path, speed: speed.to_owned(), ..FileConfig::default() }, None)
}

/// A file of NDJSON with names of its own, as it is played.
fn ndjson(file: &tempfile::NamedTempFile, speed: &str) -> Replay {
    let config = FileConfig {
        path: file.path().to_str().unwrap().to_owned(),
        format: FileFormat::Ndjson,
        speed: speed.to_owned(),
        ..FileConfig::default()
    };
    let records = Records {
        source: "file".into(),
        symbol: "data.s".into(),
        time: "t".into(),
        time_format: "epoch_s".into(),
        ..Records::default()
    };
    Replay::new(&config, Some(&records)).unwrap()
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
    let plain = played(replay(&file(FILE.as_bytes()), "max").unwrap(), None).await;
    let (head, tail) = FILE.as_bytes().split_at(90);
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    for pack in [gz, zst] {
        // Whole, and of several members, as `cat a.gz b.gz` makes them, with a byte order mark.
        for packed in [pack(FILE.as_bytes()), [pack(MARK), pack(head), pack(tail)].concat()] {
            let file = file(&packed);
            assert_eq!(played(replay(&file, "max").unwrap(), None).await.len(), plain.len());
            for (last, tick) in plain.iter().enumerate() {
                let rest = played(replay(&file, "max").unwrap(), Some(&tick.id)).await;
                assert_eq!(bodies(&rest), bodies(&plain[last + 1..]));
                assert!(rest.iter().zip(&plain[last + 1..]).all(|(a, b)| a.id == b.id));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lines_of_json_are_played_as_they_are() {
    let lines = [
        r#"{"t":1381152600,"data":{"s":"IBM"},"price":1}"#,
        r#" {"t":"1381152600.5", "data":{"s":"BRK.B"}} "#,
        r#"{"t":1381152601.25,"data":7,"text":"a \" quote"}"#,
        "no JSON",
        "\u{1F98E}",
    ];
    let mut text = format!("\u{FEFF}{}\r\n\n{}", lines[0], lines[1..].join("\n")).into_bytes();
    text.extend(b"\n\xFF");
    for packed in [text.clone(), gz(&text), zst(&text)] {
        let file = file(&packed);
        let mut running = start(ndjson(&file, "2x"), None);
        let begin = Instant::now();
        let mut ticks = Vec::new();
        for ms in [0, 250, 625, 625, 625, 625] {
            ticks.push(running.next().await);
            let late = begin.elapsed().as_millis() - ms;
            assert!(late <= 2, "{late} ms late");
        }
        assert_eq!(bodies(&ticks[..5]), lines);
        assert_eq!(ticks[5].body, &b"\xFF"[..], "process says what is wrong with it");
        let symbols: Vec<_> = ticks.iter().map(|tick| tick.symbol.clone()).collect();
        let (ibm, brk) = (Symbol::new("IBM").ok(), Symbol::new("BRK.B").ok());
        assert_eq!(symbols, [ibm, brk, None, None, None, None]);
        for tick in &ticks {
            assert_eq!((tick.format, tick.columns.as_deref()), (Format::Ndjson, None));
            assert_eq!(tick.content_type, "application/x-ndjson");
            let rest = played(ndjson(&file, "max"), Some(&tick.id)).await;
            let number = tick.id.rsplit(':').next().unwrap().parse::<usize>().unwrap();
            assert_eq!(rest.len(), 5 - number);
        }
        assert!(running.rest().await.0.is_empty());
    }
}

#[tokio::test]
async fn a_file_without_a_header_line_is_given_one() {
    let file = file(b"1381152600000,IBM,1\n1381152600001,SPY,2\n");
    let config = FileConfig {
        path: file.path().to_str().unwrap().to_owned(),
        header: "ts_ms,symbol,price".to_owned(),
        ..FileConfig::default()
    };
    let ticks = played(Replay::new(&config, None).unwrap(), None).await;
    assert_eq!(bodies(&ticks), ["1381152600000,IBM,1", "1381152600001,SPY,2"]);
    assert!(ticks.iter().all(|tick| tick.columns.as_deref() == Some("ts_ms,symbol,price")));
    let resumed = played(Replay::new(&config, None).unwrap(), Some(&ticks[0].id)).await;
    assert_eq!(bodies(&resumed), bodies(&ticks[1..]));
}

#[test]
fn the_name_of_a_file_says_what_is_in_it() {
    let told = |name: &str| format(FileFormat::Auto, Path::new(name));
    for name in ["a.ndjson", "a.jsonl", "A.JSONL.GZ", "/x.csv/a.ndjson.zst"] {
        assert_eq!(told(name), Format::Ndjson, "{name}");
    }
    for name in ["a.csv", "a", "a.csv.zst", "ndjson", "a.ndjson.txt", "a.jsonl/b", ".gz"] {
        assert_eq!(told(name), Format::CsvRow, "{name}");
    }
    assert_eq!(format(FileFormat::Ndjson, Path::new("a.csv")), Format::Ndjson);
    assert_eq!(format(FileFormat::Csv, Path::new("a.ndjson")), Format::CsvRow);
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
async fn a_file_that_is_cut_off_is_told_after_what_can_be_read() {
    let rows: Vec<_> = (0..50_000).map(|n| format!("{n},IBM,{}", n * 7919)).collect();
    let text = format!("ts_ms,symbol,price\n{}", rows.join("\n"));
    for (pack, name) in [(gz as fn(&[u8]) -> _, "gzip"), (zst, "Zstandard")] {
        let mut packed = pack(text.as_bytes());
        packed.truncate(packed.len() / 2);
        let file = file(&packed);
        let (ticks, end) = start(replay(&file, "max").unwrap(), None).rest().await;
        let read = ticks.len();
        assert!((1_000..49_000).contains(&read), "{read}");
        assert_eq!(bodies(&ticks), rows[..read], "no row is half of one");
        let error = end.unwrap_err();
        assert_eq!(error.kind, ErrorKind::File);
        let told = format!("cannot be read behind row {read}: the {name} data is cut off");
        assert!(error.message.ends_with(&told), "{error}");
        // What was cut off is there by the next try.
        file.as_file().set_len(0).unwrap();
        std::fs::write(file.path(), pack(text.as_bytes())).unwrap();
        let rest = played(replay(&file, "max").unwrap(), Some(&ticks[read - 1].id)).await;
        assert_eq!(bodies(&rest), rows[read..]);
    }
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
