//! `lizards rejected retry`: publishes rejected payloads again.
//!
//! A retry has a message id of its own, made of that of the rejection, and names the payload that it
//! is of: its events have the ids that they would have had. Where the payload held other events, too,
//! the retry is for the rejected one only. Before it is published it is noted in the bucket
//! `retries`, with where the streams end: whoever retries again finds it there, or behind that place
//! in the stream, and publishes nothing.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nats::{Exclusivity, Message, NewMessage, topology::Stream};
use schemas::{Reason, headers, subject};

use super::{
    outcome,
    retries::{Retries, Retry},
    show::payload,
};
use crate::{
    print::{complain, print},
    streams::{Streams, find},
};

/// The headers that a retry takes over.
const REPEATED: [&str; 5] = [
    headers::SOURCE,
    headers::RECEIVED_AT,
    headers::CONTENT_TYPE,
    headers::FORMAT,
    headers::COLUMNS,
];

/// Retries one after the other; fails where one could not be.
pub(super) async fn run(streams: &Streams, sequences: &[u64]) -> Result<ExitCode> {
    let retries = Retries::open(&streams.nats).await?;
    let mut code = ExitCode::SUCCESS;
    for &sequence in sequences {
        match one(streams, &retries, sequence).await {
            Ok(outcome) => drop(print(format_args!("{sequence}: {outcome}\n"))?),
            Err(fault) => {
                complain(format_args!("{sequence}: {fault:#}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// What became of it.
async fn one(streams: &Streams, retries: &Retries, sequence: u64) -> Result<String> {
    let broker = &*streams.broker;
    let rejection = find::by_sequence(broker, Stream::Rejected, sequence).await?;
    if rejection.header(headers::REASON) == Some(Reason::Duplicate.as_str()) {
        bail!("its event is a tick already: there is nothing to retry");
    }
    let message = message(&rejection, payload(streams, &rejection).await?)?;
    let now = Retry {
        raw: broker.state(Stream::Raw).await?.last_sequence,
        ticks: broker.state(Stream::Ticks).await?.last_sequence,
        rejected: broker.state(Stream::Rejected).await?.last_sequence,
        outcome: None,
    };
    let mut retry = retries.begin(&rejection, now).await?;
    if let Some(outcome) = retry.outcome {
        return Ok(format!("was retried before: {outcome}"));
    }
    let (subject, id) = (message.subject.clone(), id_of(&rejection)?);
    let find = async || find::by_id(broker, Stream::Raw, &subject, retry.raw, &id).await;
    let raw_seq = match find().await? {
        Some(raw_seq) => raw_seq,
        None => {
            let mut publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await?;
            publisher.send(message).await?;
            publisher.confirmed().await?;
            find().await?.context("it was published, and is not in TICKS_RAW any more")?
        }
    };
    let Some(outcome) = outcome::of(broker, &retry, raw_seq).await? else {
        return Ok(format!("published as {raw_seq} of TICKS_RAW; nothing has come of it yet"));
    };
    retry.outcome = Some(outcome.clone());
    retries.end(&rejection, retry).await?;
    Ok(outcome)
}

fn id_of(rejection: &Message) -> Result<String> {
    let id = rejection.header(headers::MESSAGE_ID).context("the rejection has no message id")?;
    Ok(format!("retry:{id}"))
}

/// The raw message of a retry.
fn message(rejection: &Message, body: bytes::Bytes) -> Result<NewMessage> {
    let id = rejection.header(headers::MESSAGE_ID).context("the rejection has no message id")?;
    let event = id.rsplit_once('@').and_then(|(event, _)| event.rsplit_once('.'));
    let (of, index) = event.context("it was not rejected by the processing")?;
    let raw_subject = rejection.header(headers::RAW_SUBJECT).unwrap_or_default();
    let mut headers =
        vec![(headers::MESSAGE_ID, id_of(rejection)?), (headers::RETRY_OF, of.to_owned())];
    // Alone in its payload, it may turn out to be many: then all of them are new.
    if rejection.header(headers::EVENTS) != Some("1") {
        headers.push((headers::RETRY_EVENT, index.to_owned()));
    }
    let repeated = REPEATED.iter().filter_map(|&name| Some((name, rejection.header(name)?)));
    headers.extend(repeated.map(|(name, value)| (name, value.to_owned())));
    Ok(NewMessage { subject: subject::retry(raw_subject), headers, body })
}
