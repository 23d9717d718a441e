//! `lizards raw replay`: publishes archived payloads again.
//!
//! As with `lizards rejected retry` the events of a replay have the ids that they would have had, it
//! is of no source, and it is in the partition of the first. What has made a tick that is still in
//! `TICKS` is left alone, and so is what is on its way: a payload that is processed once more makes
//! nothing twice. A replay's message id names the attempt before it, so that two commands at once,
//! or one that was killed and is given again, publish one.

mod fates;

use anyhow::Result;
use ingest::archive::{Order, Place, RawRecord, RawStore, Selection};
use jiff::Timestamp;
use nats::{Exclusivity, NewMessage, Publisher, topology::Stream};
use schemas::{headers, rfc3339_nanos, subject};

use self::fates::{Fate, Fates};
use super::pages::Pages;
use crate::{config::Config, print::print, streams::Streams};

/// Payloads that are judged together, by one look through the streams: some 20 MB of ids.
const CHUNK: usize = 100_000;

/// Messages that wait for their receipt at most.
const IN_FLIGHT: usize = 512;

/// What there was to do.
#[derive(Debug, Default)]
struct Count {
    payloads: u64,
    due: u64,
    ticks: u64,
    on_their_way: u64,
    retries: u64,
}

pub(super) async fn run(
    config: &Config,
    store: &dyn RawStore,
    mut selection: Selection,
    dry_run: bool,
) -> Result<()> {
    let streams = Streams::connect(config).await?;
    // What comes meanwhile is new, and processed as it is.
    let now = Timestamp::now();
    selection.to = Some(selection.to.map_or(now, |to| to.min(now)));
    let mut publisher = match dry_run {
        true => None,
        false => Some(streams.broker.publisher(&[Stream::Raw], Exclusivity::Shared).await?),
    };
    let mut count = Count::default();
    let mut start = None;
    loop {
        let (chunk, end) = chunk(store, &selection, start.clone(), &mut count).await?;
        if end == start {
            break;
        }
        let fates = Fates::of(&*streams.broker, chunk).await?;
        let mut pages = pages(store, &selection, start);
        // A record that its age has taken meanwhile is no end to wait for.
        while pages.after < end {
            let page = pages.next(u32::MAX).await?;
            if page.is_empty() {
                break;
            }
            for record in page {
                let Some((fate, attempt)) = fates.of_payload(&record.id) else { continue };
                match fate {
                    Fate::Tick => count.ticks += 1,
                    Fate::OnItsWay => count.on_their_way += 1,
                    Fate::Due => {
                        count.due += 1;
                        if let Some(publisher) = &mut publisher {
                            send(&mut **publisher, message(record, attempt)).await?;
                        }
                    }
                }
            }
        }
        start = end;
    }
    if let Some(publisher) = &mut publisher {
        while publisher.in_flight() > 0 {
            publisher.confirmed().await?;
        }
    }
    print(count.told(dry_run))?;
    Ok(())
}

/// The payloads of the next chunk, and the place of the last.
async fn chunk(
    store: &dyn RawStore,
    selection: &Selection,
    start: Option<Place>,
    count: &mut Count,
) -> Result<(Vec<fates::Payload>, Option<Place>)> {
    let mut pages = pages(store, selection, start);
    let mut chunk = Vec::new();
    while chunk.len() < CHUNK {
        let page = pages.next(u32::MAX).await?;
        if page.is_empty() {
            break;
        }
        for record in page {
            count.payloads += 1;
            // What it was a retry of is in the archive, too.
            if record.subject.starts_with(subject::RETRY_PREFIX) {
                count.retries += 1;
            } else {
                chunk.push(fates::Payload {
                    id: record.id,
                    received_at: record.received_at,
                    raw_seq: record.raw_seq,
                });
            }
        }
    }
    Ok((chunk, pages.after))
}

fn pages<'a>(store: &'a dyn RawStore, selection: &'a Selection, after: Option<Place>) -> Pages<'a> {
    Pages { store, selection, order: Order::OldestFirst, after }
}

async fn send(publisher: &mut dyn Publisher, message: NewMessage) -> Result<()> {
    while publisher.in_flight() >= IN_FLIGHT {
        publisher.confirmed().await?;
    }
    Ok(publisher.send(message).await?)
}

/// The raw message of a replay behind that attempt.
fn message(record: RawRecord, attempt: u64) -> NewMessage {
    let mut headers = vec![
        (headers::MESSAGE_ID, format!("replay:{}@{attempt}", record.id)),
        (headers::RECEIVED_AT, rfc3339_nanos(record.received_at)),
        (headers::RETRY_OF, record.id),
    ];
    let rest = [
        (headers::SOURCE, record.source),
        (headers::CONTENT_TYPE, record.content_type),
        (headers::FORMAT, record.format),
        (headers::COLUMNS, record.columns),
    ];
    headers.extend(rest.into_iter().filter_map(|(name, value)| Some((name, value?))));
    NewMessage { subject: subject::retry(&record.subject), headers, body: record.body }
}

impl Count {
    fn told(&self, dry_run: bool) -> String {
        let Self { payloads, due, ticks, on_their_way, retries } = self;
        let done = if dry_run { "would be replayed" } else { "replayed" };
        format!(
            "{payloads} payloads: {due} {done}, {ticks} have made ticks, {on_their_way} on their \
             way, {retries} were retries themselves\n"
        )
    }
}
