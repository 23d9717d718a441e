//! Questions about the whole of a stream.
//!
//! Over AMQP 0-9-1 a stream does not say where it ends. So a marker is written into it, past the
//! exchange, and the stream is read up to it: what comes before the marker is everything that was
//! stored when the question was asked. Every reader skips markers; the sequences have a hole there.

use std::collections::HashMap;

use lapin::{
    Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{
    cursor::{Cursor, From, PREFETCH},
    session::{answer, short},
    wire::{self, Content},
};
use crate::{BrokerError, Message, StreamState};

/// How far before the end the search for the newest begins; each step back is longer by
/// [`STRIDE_GROWTH`], so that what is near costs little and what is far is read once.
const FIRST_STRIDE: u64 = 64;
const STRIDE_GROWTH: u64 = 16;

/// Writes a marker behind everything stored, on the channel of a cursor that is already open, so
/// that the cursor comes to it. Returns the marker's id.
pub(super) async fn mark(cursor: &Cursor, queue: &str, note: &str) -> Result<String, BrokerError> {
    let id = format!("{:032x}", rand::random::<u128>());
    let channel = cursor.channel();
    answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (body, properties) = (note.as_bytes(), wire::marker(&id)?);
    let confirm = channel.basic_publish(short("")?, short(queue)?, options, body, properties);
    match answer(async { confirm.await?.await }).await? {
        Confirmation::Ack(None) => Ok(id),
        _ => Err(BrokerError::Refused(format!("the stream {queue} takes no marker"))),
    }
}

/// The offset of a marker written now.
pub(super) async fn end(connection: &Connection, queue: &str) -> Result<u64, BrokerError> {
    let mut cursor = Cursor::open(connection, queue, From::Next, PREFETCH).await?;
    let own = mark(&cursor, queue, "").await?;
    loop {
        let entry = cursor.read().await?;
        if matches!(entry.content, Content::Marker { id, .. } if id == own) {
            return Ok(entry.offset);
        }
    }
}

/// The newest message before the marker at `end` that is wanted.
///
/// Costs the reading of everything after it, or of the whole stream where there is none.
pub(super) async fn newest_before(
    connection: &Connection,
    queue: &str,
    end: u64,
    wanted: impl Fn(&Message) -> bool,
) -> Result<Option<Message>, BrokerError> {
    let (mut upper, mut stride) = (end, FIRST_STRIDE);
    while upper > 0 {
        let lower = upper.saturating_sub(stride);
        let mut cursor = Cursor::open(connection, queue, From::Offset(lower), PREFETCH).await?;
        let (mut first, mut newest) = (None, None);
        loop {
            // The marker at `end` is the latest that ends this.
            let entry = cursor.read().await?;
            if entry.offset >= lower {
                first.get_or_insert(entry.offset);
            }
            match entry.content {
                _ if entry.offset >= upper => break,
                Content::Message(message) if entry.offset >= lower && wanted(&message) => {
                    newest = Some(message);
                }
                _ => {}
            }
        }
        // Where the first one kept is later than asked for, nothing is older.
        if newest.is_some() || first > Some(lower) {
            return Ok(newest);
        }
        (upper, stride) = (lower, stride.saturating_mul(STRIDE_GROWTH));
    }
    Ok(None)
}

/// The oldest message of a stream that is known to have one.
pub(super) async fn oldest(connection: &Connection, queue: &str) -> Result<Message, BrokerError> {
    let mut cursor = Cursor::open(connection, queue, From::First, PREFETCH).await?;
    loop {
        if let Content::Message(message) = cursor.read().await?.content {
            return Ok(message);
        }
    }
}

/// What a reading of the whole stream found.
pub(super) struct Census {
    /// The bounds of what was read.
    pub(super) state: StreamState,
    /// The newest message of each subject, in stream order.
    pub(super) newest: Vec<Message>,
    /// The marker that ended the reading.
    pub(super) end: u64,
}

/// Reads the whole stream, and holds one message a subject in memory.
pub(super) async fn census(connection: &Connection, queue: &str) -> Result<Census, BrokerError> {
    let mut cursor = Cursor::open(connection, queue, From::First, PREFETCH).await?;
    let own = mark(&cursor, queue, "").await?;
    let mut state = StreamState::default();
    let mut by_subject: HashMap<String, Message> = HashMap::new();
    let end = loop {
        let entry = cursor.read().await?;
        match entry.content {
            Content::Marker { id, .. } if id == own => break entry.offset,
            Content::Marker { .. } => {}
            Content::Message(message) => {
                if state.messages == 0 {
                    state.first_sequence = message.sequence;
                }
                state.last_sequence = message.sequence;
                state.messages += 1;
                by_subject.insert(message.subject.clone(), message);
            }
        }
    };
    let mut newest: Vec<_> = by_subject.into_values().collect();
    newest.sort_unstable_by_key(|message| message.sequence);
    Ok(Census { state, newest, end })
}
