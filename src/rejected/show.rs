//! `lizards rejected show`.

use anyhow::{Context as _, Result};
use nats::{Message, topology::Stream};
use schemas::headers;

use crate::{
    print::print,
    streams::{Streams, find},
};

pub(super) async fn run(streams: &Streams, sequence: u64) -> Result<()> {
    let message = find::by_sequence(&*streams.broker, Stream::Rejected, sequence).await?;
    let body = payload(streams, &message).await?;
    let mut text = format!("{}  {}\n", message.subject, message.stored_at);
    for (name, value) in message.headers.iter() {
        text += &format!("{name}: {value}\n");
    }
    print(format_args!("{text}\n{}\n", String::from_utf8_lossy(&body)))?;
    Ok(())
}

/// The payload of a rejection; where it was left out, that of the raw message.
pub(super) async fn payload(streams: &Streams, rejection: &Message) -> Result<bytes::Bytes> {
    if rejection.header(headers::BODY).is_none() {
        return Ok(rejection.body.clone());
    }
    let sequence = rejection.header(headers::RAW_SEQUENCE).and_then(|seq| seq.parse().ok());
    let sequence = sequence.context("the rejection does not name its payload")?;
    Ok(find::by_sequence(&*streams.broker, Stream::Raw, sequence).await?.body)
}
