//! `lizards raw`: the archive is read back byte for byte, and processed again without doubles.

use std::{collections::BTreeSet, process::Output, time::Duration};

use async_nats::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nats::{
    Broker, JetStream, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::headers;
use serde_json::Value;

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::{NatsServer, mongodb},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Payloads in the order of their times: three that are ticks, two that will be when their site is
/// read in another way, and one that never will be.
fn payloads() -> Vec<(String, Vec<u8>)> {
    let page = |price: &str| format!("<p id=IBM>{price}</p>").into_bytes();
    let bodies = [
        page("1.50"),
        page("2.50"),
        page("1.234,50"),
        page("3.50"),
        b"\xFF\x00 is no page \xFE".to_vec(),
        page("5.678,25"),
    ];
    let id = |number| format!("html:shop:_:{number}:\u{1F98E}");
    bodies.into_iter().enumerate().map(|(number, body)| (id(number), body)).collect()
}

fn received_at(number: usize) -> String {
    format!("2024-01-02T03:04:05.{:09}Z", 100 + number)
}

fn site(decimal_separator: char) -> String {
    format!(
        r#"[{{"name":"shop","url":"https://example.com","rows":"p","symbol":{{"attribute":"id"}},"price":{{}},"currency":"EUR","decimal_separator":"{decimal_separator}"}}]"#
    )
}

fn raw(installation: &Installation, args: &[&str]) -> Output {
    let mut command = installation.command(&[&["raw"], args].concat());
    tokio::task::block_in_place(|| command.output()).expect("the program is built")
}

/// What it prints when it succeeds.
fn said(installation: &Installation, args: &[&str]) -> String {
    let output = raw(installation, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// What it complains of when it fails.
fn complaint(installation: &Installation, args: &[&str]) -> String {
    let output = raw(installation, args);
    assert!(!output.status.success(), "{args:?} succeeded");
    String::from_utf8(output.stderr).expect("it prints text")
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
}

async fn count(broker: &JetStream, stream: Stream, wanted: u64) {
    eventually(PATIENCE, &format!("{stream} has {wanted} messages"), async || {
        let messages = broker.state(stream).await.map_or(0, |state| state.messages);
        (messages == wanted).then_some(())
    })
    .await;
}

async fn publish(nats: &NatsServer) {
    let client = async_nats::connect(nats.url()).await.expect("it runs");
    for (number, (id, body)) in payloads().into_iter().enumerate() {
        let mut headers = HeaderMap::new();
        let received_at = received_at(number);
        for (name, value) in [
            (headers::MESSAGE_ID, id.as_str()),
            (headers::SOURCE, "html:shop"),
            (headers::RECEIVED_AT, &received_at),
            (headers::CONTENT_TYPE, "text/html; charset=utf-8"),
            (headers::FORMAT, "html"),
        ] {
            headers.insert(name, value);
        }
        let subject = "ticks.raw.html:shop._";
        client.publish_with_headers(subject, headers, body.into()).await.expect("it takes it");
    }
    client.flush().await.expect("it runs");
}

fn reads_back(installation: &Installation) {
    // Listed: all, the newest, and those of some times.
    let listed = objects(&said(installation, &["list", "--json"]));
    let ids = |rows: &[Value]| -> Vec<String> {
        rows.iter().filter_map(|row| Some(row["id"].as_str()?.to_owned())).collect()
    };
    let all: Vec<String> = payloads().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids(&listed), all);
    assert_eq!(ids(&objects(&said(installation, &["list", "--json", "--limit", "2"]))), all[4..]);
    let (from, to) = (received_at(1), received_at(3));
    let times = ["list", "--json", "--source", "html:shop", "--from", &from, "--to", &to];
    assert_eq!(ids(&objects(&said(installation, &times))), all[1..3]);
    assert_eq!(said(installation, &["list", "--json", "--symbol", "IBM"]), "");
    let table = said(installation, &["list"]);
    assert!(table.starts_with("RECEIVED AT") && table.lines().count() == 7, "{table}");

    // Got: with the envelope, and byte for byte.
    let (odd, body) = &payloads()[4];
    assert_eq!(raw(installation, &["get", odd, "--body"]).stdout, *body);
    let shown = said(installation, &["get", &all[0]]);
    assert!(shown.contains("Lizards-Received-At: 2024-01-02T03:04:05.000000100Z"), "{shown}");
    assert!(shown.contains("\n<p id=IBM>1.50</p>\n"), "{shown}");
    let missing = complaint(installation, &["get", "nobody"]);
    assert!(missing.contains("the archive has no payload \"nobody\""), "{missing}");

    // Exported: everything that came in.
    let exported = said(installation, &["export"]);
    let lines = objects(&exported);
    assert_eq!(lines.len(), 6);
    for (number, (line, (id, body))) in lines.iter().zip(payloads()).enumerate() {
        assert_eq!(line["id"], Value::from(id.as_str()));
        assert_eq!(line["source"], "html:shop");
        assert_eq!(line["symbol"], Value::Null);
        assert_eq!(line["received_at"], Value::from(received_at(number)));
        assert_eq!(line["content_type"], "text/html; charset=utf-8");
        assert_eq!(line["format"], "html");
        assert_eq!(line["subject"], "ticks.raw.html:shop._");
        assert_eq!(line["raw_seq"], Value::from(number + 1));
        let written = match line["body_base64"].as_str() {
            Some(text) => STANDARD.decode(text).expect("it is base64"),
            None => line["body"].as_str().expect("it has a body").as_bytes().to_vec(),
        };
        assert_eq!(written, body);
        assert_eq!(raw(installation, &["get", &id, "--json"]).stdout.trim_ascii(), {
            exported.lines().nth(number).expect("a line").as_bytes()
        });
    }
    exports_into_a_file(installation, &exported);
}

/// Wherever it was cut off, it is whole afterwards; and nothing that was there is overwritten.
fn exports_into_a_file(installation: &Installation, exported: &str) {
    let file = installation.folder().join("export.ndjson");
    let path = file.display().to_string();
    said(installation, &["export", "--output", &path]);
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), exported);
    let fault = complaint(installation, &["export", "--output", &path]);
    assert!(fault.contains("--resume") && fault.contains("export.ndjson"), "{fault}");
    let second = exported.find('\n').expect("it has lines") + 1;
    for cut in [0, 1, second, second + 1, exported.len() - 1, exported.len()] {
        std::fs::write(&file, &exported.as_bytes()[..cut]).expect("the folder is ours");
        said(installation, &["export", "--output", &path, "--resume"]);
        let whole = std::fs::read_to_string(&file).expect("it is there");
        assert_eq!(whole, exported, "cut at {cut}");
    }
    std::fs::write(&file, "dear diary\n1\n").expect("the folder is ours");
    let fault = complaint(installation, &["export", "--output", &path, "--resume"]);
    assert!(fault.contains("its last line is none of an export"), "{fault}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "dear diary\n1\n");
}

async fn archives_reads_back_and_replays(nats: &NatsServer, mut installation: Installation) {
    installation.set("html", site('.'));
    installation.set("ingest.sources", "");
    let registry = Registry::at(&nats.url()).await;
    let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
    let (process, _ingest) = (installation.role("process"), installation.role("ingest"));
    registry.address("process").await;
    publish(nats).await;
    count(&broker, Stream::Ticks, 3).await;
    count(&broker, Stream::Rejected, 3).await;
    eventually(PATIENCE, "everything is archived", async || {
        let listed = raw(&installation, &["list", "--json"]);
        (listed.stdout.iter().filter(|byte| **byte == b'\n').count() == 6).then_some(())
    })
    .await;
    reads_back(&installation);

    let replay = |installation: &Installation, args: &[&str], wanted: &str| {
        let told = said(installation, &[&["replay"], args].concat());
        assert!(told.contains(wanted), "{told}");
    };
    replay(
        &installation,
        &["--dry-run"],
        "6 payloads: 3 would be replayed, 3 have made ticks, 0 on their way, 0 were",
    );
    let first_two = received_at(2);
    replay(&installation, &["--to", &first_two], "2 payloads: 0 replayed, 2 have made ticks, 0 on");
    count(&broker, Stream::Raw, 6).await;

    // While nobody processes, a second command finds what the first has published.
    drop(process);
    replay(&installation, &[], "3 replayed, 3 have made ticks, 0 on their way");
    replay(&installation, &[], "0 replayed, 3 have made ticks, 3 on their way");
    count(&broker, Stream::Raw, 9).await;

    // The site is read in another way now; what is good already is not read again.
    installation.set("html", site(','));
    let _process = installation.role("process");
    count(&broker, Stream::Ticks, 5).await;
    count(&broker, Stream::Rejected, 4).await;
    replay(&installation, &[], "1 replayed, 5 have made ticks, 0 on their way");
    count(&broker, Stream::Rejected, 5).await;
    count(&broker, Stream::Ticks, 5).await;

    // Replays are archived, too, with what they are once more.
    let lines = eventually(PATIENCE, "the replays are archived", async || {
        let lines = objects(&said(&installation, &["export"]));
        (lines.len() == 10).then_some(lines)
    })
    .await;
    let of: BTreeSet<_> = lines.iter().filter_map(|line| line["retry_of"].as_str()).collect();
    let all = payloads();
    assert_eq!(of, [2, 4, 5].map(|number| all[number].0.as_str()).into());

    let mut reader = broker.reader(Stream::Ticks, &[], Start::Sequence(1)).await.expect("a stream");
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        let tick = reader.next().await.expect("it has five");
        ids.insert(tick.header(headers::MESSAGE_ID).expect("a tick has an id").to_owned());
    }
    let good = payloads().into_iter().map(|(id, _)| format!("{id}.0"));
    let good: BTreeSet<_> = good.enumerate().filter(|(n, _)| *n != 4).map(|(_, id)| id).collect();
    assert_eq!(ids, good, "each has the id that it would have had, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_sqlite() {
    let nats = NatsServer::start().await;
    let installation = Installation::at(&nats.url());
    let fault = complaint(&installation, &["list"]);
    assert!(fault.contains("there is no") && fault.contains("raw.db"), "{fault}");
    archives_reads_back_and_replays(&nats, installation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_mongodb() {
    let (nats, server) = (NatsServer::start().await, mongodb().await);
    let mut installation = Installation::at(&nats.url());
    installation.set("ingest.archive.url", &server.url);
    installation.set("ingest.archive.database", &server.database);
    archives_reads_back_and_replays(&nats, installation).await;
}
