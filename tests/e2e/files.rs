//! Files that are played: each row is stored once, however often its source is killed, and whatever
//! the stream has dropped meanwhile.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::jetstream;
use jiff::{Timestamp, tz::TimeZone};
use nats::{
    Broker, Bucket, JetStream, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::subject;

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::NatsServer,
    trades::{HEADER, Trades},
};

const PATIENCE: Duration = Duration::from_secs(180);

/// The end of the log of a source that has played its file, this time or before.
const PLAYED: &str = "the file is played to its end";
const PLAYED_BEFORE: &str = "the file was already played to its end";

/// How the lines of [`other_shape`] are read.
const RECORDS: &str = r#"
[[records]]
source = "file"
symbol = "data.ticker"
price = "last"
size = "lot"
time = "when"
time_format = "%d.%m.%Y %H:%M:%S%.f"
time_zone = "Europe/Berlin"
numbers = ","
"#;

/// The trades as NDJSON with names, times and numbers of its own, compressed with Zstandard in two
/// frames, and its lines as they are.
fn other_shape(trades: &Trades, folder: &Path) -> (PathBuf, Vec<String>) {
    let berlin = TimeZone::get("Europe/Berlin").expect("a time zone");
    let lines = trades.rows.iter().map(|row| {
        let fields: Vec<_> = row.split(',').collect();
        let time =
            Timestamp::from_millisecond(fields[0].parse().expect("a number")).expect("a time");
        let when = time.to_zoned_datetime(berlin.clone()).strftime("%d.%m.%Y %H:%M:%S%.3f");
        let (symbol, last, lot) = (fields[1], fields[2].replace('.', ","), fields[3]);
        format!(r#"{{"data":{{"ticker":"{symbol}"}},"when":"{when}","last":"{last}","lot":{lot}}}"#)
    });
    let lines: Vec<_> = lines.collect();
    let text = lines.join("\r\n");
    // In the middle of a line.
    let (head, tail) = text.as_bytes().split_at(text.len() / 2 + 7);
    let frames = [head, tail].map(|part| zstd::encode_all(part, 3).expect("memory"));
    let path = folder.join("trades.jsonl.zst");
    std::fs::write(&path, frames.concat()).expect("the folder is ours");
    (path, lines)
}

/// A NATS, and an installation whose `ingest` plays a file into it.
struct Scene {
    installation: Installation,
    broker: JetStream,
    jetstream: jetstream::Context,
    places: Bucket,
    _nats: NatsServer,
}

impl Scene {
    async fn start() -> Self {
        let nats = NatsServer::start().await;
        let mut installation = Installation::at(&nats.url());
        installation.set("ingest.sources", "file");
        installation.set("ingest.file.speed", "max");
        let registry = Registry::at(&nats.url()).await;
        let client = async_nats::connect(nats.url()).await.expect("the test's NATS runs");
        Self {
            installation,
            broker: JetStream::new(registry.nats.clone(), StreamsConfig::default()),
            jetstream: jetstream::new(client),
            places: registry.nats.positions().await.expect("a bucket"),
            _nats: nats,
        }
    }

    /// How many rows the stream has; none while there is no stream.
    async fn messages(&self) -> usize {
        let state = self.broker.state(Stream::Raw).await;
        state.map_or(0, |state| usize::try_from(state.messages).expect("few"))
    }

    /// The row, counted from 0 on, that was stored last, says the bucket.
    async fn place(&self) -> Option<usize> {
        let (value, _) = self.places.get("ingest.file").await.ok()??;
        let place: serde_json::Value = serde_json::from_slice(&value).expect("JSON");
        let row = place["id"].as_str().and_then(|id| id.rsplit(':').next());
        Some(row.expect("the id of a row").parse().expect("a number"))
    }

    /// What the stream has.
    async fn bodies(&self) -> Vec<String> {
        let mut reader =
            self.broker.reader(Stream::Raw, &[], Start::Sequence(1)).await.expect("a reader");
        let mut bodies = Vec::new();
        for _ in 0..self.messages().await {
            let message = reader.next().await.expect("a message");
            bodies.push(String::from_utf8(message.body.to_vec()).expect("UTF-8"));
        }
        bodies
    }

    /// As when all of it has become too old.
    async fn drop_all(&self) {
        let stream = self.jetstream.get_stream(subject::TICKS_RAW).await.expect("it is there");
        stream.purge().await.expect("it is emptied");
        assert_eq!(self.messages().await, 0);
    }

    /// Plays the file until the log says how that ended, and its last row is the place that is kept,
    /// and stops: the stream has these rows then.
    async fn play(&self, ended: &str, last: usize, rows: &[String]) {
        let ingest = self.installation.role("ingest");
        eventually(PATIENCE, ended, async || ingest.log().contains(ended).then_some(())).await;
        eventually(PATIENCE, "all is stored, and the place kept", async || {
            let is_stored = self.messages().await >= rows.len();
            (is_stored && self.place().await == Some(last)).then_some(())
        })
        .await;
        drop(ingest);
        assert!(
            self.bodies().await == rows,
            "{} rows, and not {}",
            self.messages().await,
            rows.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_at_the_row_where_its_source_was_killed() {
    let mut scene = Scene::start().await;
    let config = scene.installation.folder().join("lizards.toml");
    std::fs::write(&config, RECORDS).expect("the folder is ours");
    scene.installation.set("config", config.display());
    let trades = Trades::from_the_open(5_000);
    let (file, lines) = other_shape(&trades, scene.installation.folder());
    scene.installation.set("ingest.file.path", file.display());
    scene.installation.set("ingest.file.speed", "20x");
    let mut ingest = scene.installation.role("ingest");
    let mut seen = Vec::new();
    for least in [300, 1_500] {
        eventually(PATIENCE, "rows are stored", async || {
            (scene.messages().await >= least).then_some(())
        })
        .await;
        ingest.kill().await;
        let stored = scene.bodies().await;
        assert!(stored.len() < 5_000, "it was killed in the middle");
        seen.push(stored.len());
        ingest.start_again().await;
    }
    eventually(PATIENCE, PLAYED, async || ingest.log().contains(PLAYED).then_some(())).await;
    let stored = scene.bodies().await;
    assert_eq!(stored.len(), lines.len(), "killed behind {seen:?}");
    assert!(stored == lines, "each row once, in order, byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_where_it_was_although_the_stream_has_dropped_it() {
    let mut scene = Scene::start().await;
    let trades = Trades::from_the_open(5_000);
    let file = trades.write(scene.installation.folder());
    scene.installation.set("ingest.file.path", file.display());
    scene.installation.set("ingest.file.speed", "20x");
    // The stream is to forget the ids: only the place is left.
    scene.installation.set("streams.duplicate_window_secs", 1);
    let mut ingest = scene.installation.role("ingest");
    eventually(PATIENCE, "a place is kept", async || (scene.place().await? >= 300).then_some(()))
        .await;
    ingest.kill().await;
    let first = scene.bodies().await;
    let place = scene.place().await.expect("it was kept") + 1;
    assert!(place <= first.len() && first.len() < 5_000, "{place} of {}", first.len());
    scene.drop_all().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ingest.start_again().await;
    eventually(PATIENCE, PLAYED, async || ingest.log().contains(PLAYED).then_some(())).await;
    let rest = scene.bodies().await;
    assert!(first == trades.rows[..first.len()]);
    // What the stream still knew by its ids is not stored again.
    let begun = 5_000 - rest.len();
    assert!((place..=first.len()).contains(&begun), "{begun}: {place} to {}", first.len());
    assert!(rest == trades.rows[begun..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_played_is_not_played_again_unless_it_is_another() {
    let mut scene = Scene::start().await;
    // Five quick starts: what the stream remembers must not help.
    scene.installation.set("streams.duplicate_window_secs", 1);
    let trades = Trades::from_the_open(500);
    let file = trades.write(scene.installation.folder());
    scene.installation.set("ingest.file.path", file.display());
    scene.play(PLAYED, 499, &trades.rows).await;
    scene.drop_all().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.play(PLAYED_BEFORE, 499, &[]).await;

    // It has grown.
    let mut grown = trades.clone();
    grown.rows.extend_from_within(..20);
    grown.write(scene.installation.folder());
    scene.play(PLAYED, 519, &grown.rows[500..]).await;
    scene.drop_all().await;
    scene.play(PLAYED_BEFORE, 519, &[]).await;

    // Another content under the same name is another file.
    let other = format!("{HEADER}\n{}\n", grown.rows[1..].join("\n"));
    std::fs::write(&file, other).expect("the folder is ours");
    scene.play(PLAYED, 518, &grown.rows[1..]).await;

    // Another stream has never had it.
    scene.jetstream.delete_stream(subject::TICKS_RAW).await.expect("it is deleted");
    scene.play(PLAYED, 518, &grown.rows[1..]).await;
}
