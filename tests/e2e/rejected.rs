//! `lizards rejected`: what could not be used is found, shown, and tried again exactly once.

use std::{collections::HashSet, time::Duration};

use async_nats::HeaderMap;
use nats::{
    Broker, JetStream, Message, Start,
    topology::{Stream, StreamsConfig},
};
use schemas::headers;
use serde_json::Value;

use crate::{
    eventually::eventually,
    lizards::{Installation, Registry},
    servers::NatsServer,
};

const PATIENCE: Duration = Duration::from_secs(60);
const GOOD: usize = 500;

/// A page of many prices, one of which is written in another way than the site's.
fn page() -> String {
    let row = |symbol: usize, price: &str| format!("<p id=S{symbol}>{price}</p>");
    let good = (0..GOOD).map(|symbol| row(symbol, &format!("{}.50", symbol + 1)));
    let mut rows: Vec<_> = good.collect();
    rows.insert(7, row(GOOD, "1.234,50"));
    rows.concat()
}

fn site(decimal_separator: char) -> String {
    format!(
        r#"[{{"name":"shop","url":"https://example.com","rows":"p","symbol":{{"attribute":"id"}},"price":{{}},"currency":"EUR","decimal_separator":"{decimal_separator}"}}]"#
    )
}

async fn rejected(installation: &Installation, args: &[&str]) -> (bool, String) {
    let mut command = installation.command(&[&["rejected"], args].concat());
    let output = tokio::task::block_in_place(|| command.output()).expect("the program is built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn count(broker: &JetStream, stream: Stream, wanted: u64) {
    eventually(PATIENCE, &format!("{stream} has {wanted} messages"), async || {
        let messages = broker.state(stream).await.map_or(0, |state| state.messages);
        (messages == wanted).then_some(())
    })
    .await;
}

async fn read(broker: &JetStream, stream: Stream, count: usize) -> Vec<Message> {
    let mut reader = broker.reader(stream, &[], Start::Sequence(1)).await.expect("it is there");
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        messages.push(reader.next().await.expect("it holds so many"));
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_event_is_tried_again_without_those_beside_it() {
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    installation.set("html", site('.'));
    let registry = Registry::at(&nats.url()).await;
    let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
    let process = installation.role("process");
    registry.address("process").await;

    let client = async_nats::connect(nats.url()).await.expect("it runs");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (headers::MESSAGE_ID, "html:shop:1"),
        (headers::SOURCE, "html:shop"),
        (headers::RECEIVED_AT, "2024-01-02T03:04:05.000000000Z"),
        (headers::FORMAT, "html"),
    ] {
        headers.insert(name, value);
    }
    let subject = "ticks.raw.html:shop._";
    client.publish_with_headers(subject, headers, page().into()).await.expect("it takes it");
    count(&broker, Stream::Ticks, GOOD as u64).await;
    count(&broker, Stream::Rejected, 1).await;

    // Found by source and reason, and by nothing else.
    let (found, listed) = rejected(
        &installation,
        &["list", "--json", "--source", "html:shop", "--reason", "invalid_field"],
    )
    .await;
    assert!(found, "{listed}");
    let row: Value = serde_json::from_str(listed.trim()).expect("one row is one object");
    assert_eq!((&row["reason"], &row["retried"]), (&"invalid_field".into(), &Value::Null));
    let first = row["seq"].to_string();
    assert!(row["error"].as_str().is_some_and(|error| error.contains("1.234,50")), "{row}");
    let (_, none) = rejected(&installation, &["list", "--json", "--reason", "malformed"]).await;
    assert_eq!(none, "");
    let (_, none) =
        rejected(&installation, &["list", "--json", "--until", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(none, "");
    let (_, some) =
        rejected(&installation, &["list", "--json", "--since", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(some, listed);
    let (_, shown) = rejected(&installation, &["show", &first]).await;
    assert!(shown.contains("Lizards-Event: 7") && shown.contains(&page()), "{shown}");
    let (found, missing) = rejected(&installation, &["show", "9999"]).await;
    assert!(!found && missing.contains("TICKS_REJECTED has no 9999"), "{missing}");

    // Nothing has changed: it is rejected again.
    let (_, said) = rejected(&installation, &["retry", &first]).await;
    let again = said.trim_end().strip_prefix(&format!("{first}: rejected again: invalid_field ("));
    let second = again.and_then(|again| again.strip_suffix(')')).expect(&said).to_owned();
    // The site is read in another way now: it is a tick, and nothing else is.
    drop(process);
    installation.set("html", site(','));
    let _process = installation.role("process");
    let (ok, said) = rejected(&installation, &["retry", &second]).await;
    assert!(ok && said == format!("{second}: is a tick now\n"), "{said}");
    for (sequence, before) in [(&second, "is a tick now"), (&first, "rejected again")] {
        let (ok, said) = rejected(&installation, &["retry", sequence]).await;
        assert!(ok && said.contains(&format!("was retried before: {before}")), "{said}");
    }
    count(&broker, Stream::Ticks, GOOD as u64 + 1).await;
    count(&broker, Stream::Rejected, 2).await;
    count(&broker, Stream::Raw, 3).await;
    let ticks = read(&broker, Stream::Ticks, GOOD + 1).await;
    let ids: HashSet<_> =
        ticks.iter().filter_map(|tick| tick.header(headers::MESSAGE_ID)).collect();
    assert_eq!(ids.len(), GOOD + 1, "every event is a tick once");
    assert!(ids.contains("html:shop:1.7"), "the event has the id that it would have had");
    let (_, listed) = rejected(&installation, &["list"]).await;
    assert!(listed.starts_with("SEQ") && listed.contains("is a tick now"), "{listed}");
}
