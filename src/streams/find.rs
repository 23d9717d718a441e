//! Reading the streams as they are now, without waiting for what comes.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Result, bail};
use nats::{Broker, Message, Start, topology::Stream};
use schemas::headers;
use tokio::time::timeout;

/// How long a message that is stored may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first window that is looked through for the newest messages.
const WINDOW: u64 = 1_000;

/// The message with this sequence.
pub(crate) async fn by_sequence(
    broker: &dyn Broker,
    stream: Stream,
    sequence: u64,
) -> Result<Message> {
    let state = broker.state(stream).await?;
    if sequence < state.first_sequence {
        bail!("{stream} does not keep {sequence} any more; its oldest is {}", state.first_sequence);
    }
    if sequence == 0 || sequence > state.last_sequence {
        bail!("{stream} has no {sequence}; its newest is {}", state.last_sequence);
    }
    let mut reader = broker.reader(stream, &[], Start::Sequence(sequence)).await?;
    match timeout(PATIENCE, reader.next()).await {
        Ok(message) => Some(message?).filter(|message| message.sequence == sequence),
        Err(_) => None,
    }
    .ok_or_else(|| anyhow::anyhow!("{stream} has no {sequence}"))
}

/// The messages of a subject (or pattern) from a start to the newest there is now.
pub(crate) async fn all(
    broker: &dyn Broker,
    stream: Stream,
    pattern: &str,
    start: Start,
    mut each: impl FnMut(Message) -> bool,
) -> Result<()> {
    let Some(newest) = broker.last(stream, pattern).await? else { return Ok(()) };
    let is_behind = match start {
        Start::Sequence(sequence) => newest.sequence < sequence,
        Start::Time(time) => newest.stored_at < time,
    };
    if is_behind {
        return Ok(());
    }
    let mut reader = broker.reader(stream, &[pattern.to_owned()], start).await?;
    loop {
        let Ok(message) = timeout(PATIENCE, reader.next()).await else {
            bail!("{stream} gives no message before {}", newest.sequence);
        };
        let message = message?;
        let is_last = message.sequence >= newest.sequence;
        if !each(message) || is_last {
            return Ok(());
        }
    }
}

/// The newest messages of a pattern, at most `limit`, oldest first: looks through a window that
/// grows until it holds enough.
pub(crate) async fn newest(
    broker: &dyn Broker,
    stream: Stream,
    pattern: &str,
    limit: usize,
    wanted: impl Fn(&Message) -> bool,
) -> Result<VecDeque<Message>> {
    let state = broker.state(stream).await?;
    let mut window = WINDOW;
    loop {
        let from = (state.last_sequence + 1).saturating_sub(window).max(state.first_sequence);
        let mut found = VecDeque::new();
        all(broker, stream, pattern, Start::Sequence(from), |message| {
            keep(&mut found, message, limit, &wanted);
            true
        })
        .await?;
        if found.len() >= limit || from <= state.first_sequence {
            return Ok(found);
        }
        window = window.saturating_mul(8);
    }
}

/// Keeps the newest that are wanted.
pub(crate) fn keep(
    found: &mut VecDeque<Message>,
    message: Message,
    limit: usize,
    wanted: impl Fn(&Message) -> bool,
) {
    if wanted(&message) {
        found.push_back(message);
        if found.len() > limit {
            found.pop_front();
        }
    }
}

/// The sequence of the message with that id, among those of a subject behind a sequence.
pub(crate) async fn by_id(
    broker: &dyn Broker,
    stream: Stream,
    subject: &str,
    behind: u64,
    id: &str,
) -> Result<Option<u64>> {
    let mut found = None;
    all(broker, stream, subject, Start::Sequence(behind + 1), |message| {
        found = (message.header(headers::MESSAGE_ID) == Some(id)).then_some(message.sequence);
        found.is_none()
    })
    .await?;
    Ok(found)
}
