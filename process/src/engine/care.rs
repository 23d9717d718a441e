//! Which payload it is that a process ends with.
//!
//! A decoder that panics is caught, and its payload rejected. What ends the whole process, such as a
//! stack or a memory that runs out, would do so again whenever the payload is read again, for ever.
//! Nobody is left to say which payload it was; so the next processes find out.
//!
//! - Where a session opens a partition with payloads to read, it notes that a process has begun at
//!   this position. Sessions of one process count once: what a process survives is no matter.
//! - Where [`CALM_STARTS`] processes have begun and the position is still the same, the next session
//!   is *careful* with the payloads that are there: it takes one after the other, each when the one
//!   before is stored, and notes that it tries this payload before it decodes it, and that it has
//!   survived when it has.
//! - A payload that is noted so was survived by nobody since. When as many tries have ended so as are
//!   allowed, it is not decoded any more, but rejected as `poison`.
//!
//! A note is saved before what it says is done, and never over one that the session has not read. So
//! none is lost, whichever call a crash comes at. A process that is killed for another reason is no
//! proof against a payload: it must have been decoding just this one, each time.
//!
//! A payload of one symbol is noted with its partition, which has one owner. One of many is decoded by
//! all, who share one note of such payloads: so it is known to each whom it has ended.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use nats::{BrokerError, Message};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::partition::Home;

/// So many processes may begin at a position before the next one is careful.
const CALM_STARTS: u32 = 2;

/// A session is careful with so many payloads at most. Positions are saved each second, so it is more
/// than what can have been read behind one; what is farther is found when the position is nearer.
const MAX_CAREFUL: u32 = 65_536;

/// A note names so many payloads. To come to a later one, somebody has rejected those before it: the
/// oldest may go.
const MAX_TRIED: usize = 64;

/// How often several owners may change their note at the same time, before it is an error.
const MAX_CONFLICTS: usize = 32;

/// What is noted of a partition, or of payloads of many symbols, which have no position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The position that processes have begun at.
    raw: u64,
    /// How many have.
    starts: u32,
    /// The last of them.
    by: String,
    /// Payloads that somebody has tried to decode, and not survived as far as is known: at most
    /// [`MAX_TRIED`], in the order of the stream.
    tried: Vec<Tried>,
}

/// A payload that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tried {
    sequence: u64,
    /// Tells it from that of another stream, where the stream was made anew.
    stored_at: Timestamp,
    /// How often.
    times: u32,
    /// By which process the last time.
    by: String,
}

impl Note {
    /// The same when a process begins at this position.
    fn begun(self, raw: u64, me: &str) -> Self {
        // What is noted of payloads that are gone means nothing.
        let before = if self.raw > raw { Self::default() } else { self };
        let starts = match () {
            () if before.raw != raw || before.starts == 0 => 1,
            () if before.by == me => before.starts,
            () => before.starts.saturating_add(1),
        };
        let mut tried = before.tried;
        tried.retain(|payload| payload.sequence > raw);
        Self { raw, starts, by: me.to_owned(), tried }
    }

    /// How many processes have tried a payload, and not survived it as far as is known; `me` has.
    fn times(&self, payload: &Message, me: &str) -> u32 {
        let found = self.tried.iter().find(|tried| tried.is(payload));
        found.map_or(0, |tried| tried.times.saturating_sub(u32::from(tried.by == me)))
    }

    /// A payload was tried so often, the last time by `me`.
    fn set(&mut self, payload: &Message, times: u32, me: &str) {
        self.tried.retain(|tried| tried.sequence != payload.sequence);
        if times > 0 {
            self.tried.push(Tried {
                sequence: payload.sequence,
                stored_at: payload.stored_at,
                times,
                by: me.to_owned(),
            });
            self.tried.sort_unstable_by_key(|tried| tried.sequence);
        }
        if self.tried.len() > MAX_TRIED {
            self.tried.remove(0);
        }
    }

    fn is_suspicious(&self) -> bool {
        self.starts > CALM_STARTS || !self.tried.is_empty()
    }
}

impl Tried {
    fn is(&self, payload: &Message) -> bool {
        self.sequence == payload.sequence && self.stored_at == payload.stored_at
    }
}

/// A note with its revision in the store.
pub(super) type Noted = (Note, Option<u64>);

/// Where notes are kept.
#[async_trait]
pub(super) trait NoteStore: Send + Sync {
    /// The note of a partition, or of payloads of many symbols where there is none; empty where there
    /// never was one.
    async fn load_note(&self, partition: Option<u16>) -> Result<Noted, BrokerError>;

    /// Replaces the note at this revision; nothing where it has another by now.
    async fn save_note(
        &self,
        partition: Option<u16>,
        note: &Note,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError>;
}

/// Who notes, where, and how many tries a payload has.
#[derive(Clone)]
pub(super) struct Notes {
    pub(super) store: Arc<dyn NoteStore>,
    /// The process; another one, or another life of it, has another name.
    pub(super) me: Arc<str>,
    pub(super) max_tries: u32,
}

/// A session is careful.
pub(super) struct Care {
    notes: Notes,
    of: BTreeMap<u16, Noted>,
    /// With payloads up to this one.
    until: u64,
    /// With so many more.
    left: u32,
}

impl Care {
    /// Notes that a session begins at these positions, where there is something to read; `newest` is
    /// the newest payload. Gives something where it is to be careful.
    pub(super) async fn begin(
        notes: Option<&Notes>,
        positions: impl Iterator<Item = (u16, u64)>,
        newest: u64,
    ) -> Result<Option<Self>, BrokerError> {
        let Some(notes) = notes else { return Ok(None) };
        let beginning: Vec<_> = positions.filter(|(_, raw)| *raw < newest).collect();
        let Some(least) = beginning.iter().map(|(_, raw)| *raw).min() else { return Ok(None) };
        let (many, _) = notes.store.load_note(None).await?;
        let is_ahead = |tried: &Tried| (least + 1..=newest).contains(&tried.sequence);
        let beginning = beginning.into_iter().map(async |(partition, raw)| {
            let (before, revision) = notes.store.load_note(Some(partition)).await?;
            let note = before.clone().begun(raw, &notes.me);
            let revision = match note == before {
                true => revision,
                false => notes.save(partition, &note, revision).await?,
            };
            Ok::<_, BrokerError>((partition, (note, revision)))
        });
        let of: BTreeMap<_, _> = try_join_all(beginning).await?.into_iter().collect();
        let suspicious = of.iter().filter(|(_, (note, _))| note.is_suspicious());
        let suspicious: Vec<_> = suspicious.map(|(partition, _)| *partition).collect();
        if suspicious.is_empty() && !many.tried.iter().any(is_ahead) {
            return Ok(None);
        }
        warn!(
            partitions = ?suspicious,
            "processes have ended here, one after the other; payloads are decoded one at a time"
        );
        Ok(Some(Self { notes: notes.clone(), of, until: newest, left: MAX_CAREFUL }))
    }

    /// Careful with payloads up to this one.
    pub(super) fn up_to(self, until: u64) -> Self {
        Self { until, ..self }
    }

    /// With this payload of the stream, and those behind it, nobody needs to be careful any more.
    pub(super) fn is_over_at(&self, sequence: u64) -> bool {
        sequence > self.until || self.left == 0
    }

    /// Notes that a payload is tried. Gives how often it was, where that is as often as it may be.
    pub(super) async fn tries(
        &mut self,
        home: Home,
        payload: &Message,
    ) -> Result<Option<u32>, BrokerError> {
        self.left = self.left.saturating_sub(1);
        let most = self.notes.max_tries;
        let one_more = |times| (times < most).then_some(times + 1);
        let times = self.note(home, payload, one_more).await?;
        Ok((times >= most).then_some(times))
    }

    /// Notes that it is survived.
    pub(super) async fn survived(
        &mut self,
        home: Home,
        payload: &Message,
    ) -> Result<(), BrokerError> {
        self.note(home, payload, |_| Some(0)).await.map(drop)
    }

    /// Notes how often a payload was tried, as `now` makes it of how often it was; nothing where it
    /// gives nothing. Gives how often it was.
    async fn note(
        &mut self,
        home: Home,
        payload: &Message,
        now: impl Fn(u32) -> Option<u32>,
    ) -> Result<u32, BrokerError> {
        let Notes { store, me, .. } = &self.notes;
        if let Home::One(partition) = home {
            let Some((note, revision)) = self.of.get_mut(&partition) else { return Ok(0) };
            let times = note.times(payload, me);
            if let Some(now) = now(times) {
                note.set(payload, now, me);
                *revision = self.notes.save(partition, note, *revision).await?;
            }
            return Ok(times);
        }
        for _ in 0..MAX_CONFLICTS {
            let (mut note, revision) = store.load_note(None).await?;
            let times = note.times(payload, me);
            let Some(now) = now(times) else { return Ok(times) };
            note.set(payload, now, me);
            if store.save_note(None, &note, revision).await?.is_some() {
                return Ok(times);
            }
        }
        Err(BrokerError::Unreachable(
            "the note of payloads of many symbols does not stay".to_owned(),
        ))
    }
}

impl Notes {
    async fn save(
        &self,
        partition: u16,
        note: &Note,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        match self.store.save_note(Some(partition), note, revision).await? {
            Some(revision) => Ok(Some(revision)),
            None => Err(BrokerError::TakenOver("positions")),
        }
    }
}
