//! What has become of payloads, as far as the streams still hold it.

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use nats::{Broker, Message, Start, topology::Stream};
use schemas::{headers, subject};

use crate::streams::find;

/// How far the clocks of machines may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_hours(1);

/// An archived payload.
pub(super) struct Payload {
    pub(super) id: String,
    pub(super) received_at: Timestamp,
    pub(super) raw_seq: u64,
}

/// What is known of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is a tick, or one of its events is; `lizards rejected retry` is for the others.
    Tick,
    /// It is in `TICKS_RAW` once more, and nothing has come of that yet.
    OnItsWay,
    /// It was rejected, each time, or nobody remembers it.
    Due,
}

/// The fates of some payloads.
pub(super) struct Fates {
    attempts: HashMap<String, Attempt>,
    ticks: HashSet<String>,
    /// The sequences in `TICKS_RAW` of what was rejected.
    rejected: HashSet<u64>,
}

/// The newest time that a payload was published.
struct Attempt {
    raw_seq: u64,
    is_retry: bool,
}

impl Fates {
    /// Looks through the streams: for retries in all of `TICKS_RAW`, for what came of a payload from
    /// its receipt on.
    pub(super) async fn of(broker: &dyn Broker, payloads: Vec<Payload>) -> Result<Self> {
        let oldest = payloads.iter().map(|payload| payload.received_at).min();
        let since = oldest.unwrap_or(Timestamp::MIN);
        let since = Start::Time(since.checked_sub(CLOCKS).unwrap_or(Timestamp::UNIX_EPOCH));
        let first =
            |payload: Payload| (payload.id, Attempt { raw_seq: payload.raw_seq, is_retry: false });
        let mut fates = Self {
            attempts: payloads.into_iter().map(first).collect(),
            ticks: HashSet::new(),
            rejected: HashSet::new(),
        };
        let retries = format!("{}*", subject::RETRY_PREFIX);
        find::all(broker, Stream::Raw, &retries, Start::Sequence(1), |message| {
            fates.retry(&message);
            true
        })
        .await?;
        let again: HashSet<u64> = fates.attempts.values().map(|attempt| attempt.raw_seq).collect();
        find::all(broker, Stream::Rejected, subject::ALL_REJECTED, since, |message| {
            let raw_seq = message.header(headers::RAW_SEQUENCE).and_then(|seq| seq.parse().ok());
            fates.rejected.extend(raw_seq.filter(|seq| again.contains(seq)));
            true
        })
        .await?;
        find::all(broker, Stream::Ticks, subject::ALL_TICKS, since, |message| {
            fates.tick(&message);
            true
        })
        .await?;
        Ok(fates)
    }

    fn retry(&mut self, message: &Message) {
        let of = message.header(headers::RETRY_OF);
        if let Some(attempt) = of.and_then(|of| self.attempts.get_mut(of)) {
            *attempt = Attempt { raw_seq: message.sequence, is_retry: true };
        }
    }

    fn tick(&mut self, message: &Message) {
        let event = message.header(headers::MESSAGE_ID);
        let payload = event.and_then(|event| Some(event.rsplit_once('.')?.0));
        if let Some(payload) = payload.filter(|payload| self.attempts.contains_key(*payload)) {
            self.ticks.insert(payload.to_owned());
        }
    }

    /// What is known of this payload, and the sequence of its newest attempt; nothing where it is
    /// none of ours.
    pub(super) fn of_payload(&self, id: &str) -> Option<(Fate, u64)> {
        let Attempt { raw_seq, is_retry } = *self.attempts.get(id)?;
        let fate = if self.ticks.contains(id) {
            Fate::Tick
        } else if is_retry && !self.rejected.contains(&raw_seq) {
            Fate::OnItsWay
        } else {
            Fate::Due
        };
        Some((fate, raw_seq))
    }
}
