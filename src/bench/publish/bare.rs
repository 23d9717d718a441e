//! The bare publishers: they have the rows in memory and do nothing but publish them, with the
//! envelope that ours gives them. Written against async-nats alone, as somebody would who wants it
//! fast.

use std::{collections::VecDeque, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use async_nats::{Client, HeaderMap, Subscriber, jetstream, jetstream::context::PublishAckFuture};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use schemas::{headers, subject};
use serde::Deserialize;

use crate::bench::trades;

/// Messages without a receipt, as ours has.
const WINDOW: usize = 4_096;

/// Which publisher.
#[derive(Args)]
pub(crate) struct BareOptions {
    /// How it publishes
    how: How,
    /// What it publishes: a CSV file
    file: PathBuf,
    /// How many rows
    messages: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    Futures,
    Inbox,
    FastIds,
    Fast,
}

/// Publishes the file, and waits to be stopped.
pub(crate) async fn publish(options: &BareOptions, url: &str) -> Result<()> {
    let rows = trades::read(Some(&options.file), options.messages)?;
    let client = async_nats::connect(url).await?;
    match options.how {
        How::Futures => futures(&client, &rows).await?,
        How::Inbox => inbox(&client, &rows).await?,
        How::FastIds => fast(&client, &rows, true).await?,
        How::Fast => fast(&client, &rows, false).await?,
    }
    // What it has used is still to be read.
    std::future::pending().await
}

/// A message as ours is: subject, headers, body.
fn message(number: usize, row: &str, with_id: bool) -> Result<(String, HeaderMap, Bytes)> {
    let raw = trades::payload(number, row)?;
    let mut map = HeaderMap::new();
    for (name, value) in raw.headers() {
        if with_id || name != headers::MESSAGE_ID {
            map.insert(name, value);
        }
    }
    Ok((subject::raw(&raw.source, raw.symbol.as_ref()), map, raw.body))
}

async fn futures(client: &Client, rows: &[String]) -> Result<()> {
    let jetstream = jetstream::new(client.clone());
    let mut in_flight = VecDeque::<PublishAckFuture>::with_capacity(WINDOW);
    for (number, row) in rows.iter().enumerate() {
        if in_flight.len() == WINDOW
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.await?;
        }
        let (subject, headers, body) = message(number, row, true)?;
        in_flight.push_back(jetstream.publish_with_headers(subject, headers, body).await?);
    }
    for sent in in_flight {
        sent.await?;
    }
    Ok(())
}

async fn inbox(client: &Client, rows: &[String]) -> Result<()> {
    let inbox = client.new_inbox();
    let mut receipts = client.subscribe(format!("{inbox}.*")).await?;
    let (mut sent, mut stored) = (0, 0);
    while stored < rows.len() {
        if sent < rows.len() && sent - stored < WINDOW {
            let (subject, headers, body) = message(sent, &rows[sent], true)?;
            let reply = format!("{inbox}.{sent}");
            client.publish_with_reply_and_headers(subject, reply, headers, body).await?;
            sent += 1;
            continue;
        }
        let receipt = receipts.next().await.context("the connection broke")?;
        let ticket = receipt.subject[inbox.len() + 1..].parse::<usize>()?;
        ensure!(ticket == stored, "a receipt is missing");
        ensure!(!receipt.payload.starts_with(br#"{"error""#), "a message is refused");
        stored += 1;
    }
    Ok(())
}

/// Fast ingest (nats-server 2.14, <https://docs.nats.io/reference/2.14/jetstream/api/stream/pub-ack>):
/// each message is stored as it comes, and a receipt comes for many. The reply subject tells the
/// server how: `<inbox>.<messages for a receipt>.<at a gap>.<number>.<operation>.$FI`.
async fn fast(client: &Client, rows: &[String], with_ids: bool) -> Result<()> {
    const RECEIPT_AFTER: usize = WINDOW / 2;
    const START: u8 = 0;
    const APPEND: u8 = 1;
    const COMMIT: u8 = 2;
    let inbox = client.new_inbox();
    let mut receipts = client.subscribe(format!("{inbox}.>")).await?;
    let mut stored = 0;
    for (place, row) in rows.iter().enumerate() {
        let number = place + 1;
        let operation = match number {
            1 => START,
            last if last == rows.len() => COMMIT,
            _ => APPEND,
        };
        let (subject, headers, body) = message(place, row, with_ids)?;
        let reply = format!("{inbox}.{RECEIPT_AFTER}.fail.{number}.{operation}.$FI");
        client.publish_with_reply_and_headers(subject, reply, headers, body).await?;
        while number == 1 && stored == 0 || number - stored >= WINDOW {
            stored = receipt(&mut receipts).await?.context("it ends too early")?;
        }
    }
    while receipt(&mut receipts).await?.is_some() {}
    Ok(())
}

/// Up to which message all are stored; `None` is all of them.
async fn receipt(receipts: &mut Subscriber) -> Result<Option<usize>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        seq: usize,
        error: Option<serde_json::Value>,
    }
    let message = receipts.next().await.context("the connection broke")?;
    let answer: Answer = serde_json::from_slice(&message.payload)?;
    match answer.kind.as_str() {
        _ if answer.error.is_some() => bail!("refused: {:?}", message.payload),
        // Of the first message it says 0: nothing is stored, and it may go on.
        "ack" => Ok(Some(answer.seq.max(1))),
        "" => Ok(None),
        other => bail!("{other}: {:?}", message.payload),
    }
}
