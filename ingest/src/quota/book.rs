//! What a process knows of the record, what it has reserved there, and what it has taken since.
//!
//! Why no more is taken than the record says, whatever becomes of whom: what is saved is worked out
//! under the lock from all that was taken until then; what is taken while it is on its way is taken
//! from a reservation that is in the record before and after. A reservation that is to be smaller is
//! made smaller here before it is there.

use super::record::{Counts, Limits, Record, Reserved, Span};

pub(super) struct Book {
    limits: Limits,
    /// This process in the record: another one, whatever its name, has reserved what it has.
    me: String,
    /// The record as it was last read or written, and its revision.
    known: Option<(Record, Option<u64>)>,
    /// What of our reservation is left.
    reserved: Reserved,
    /// What we have taken and not saved.
    unsaved: Counts,
    sent: Option<Sent>,
}

/// What is on its way, or was, and nobody said whether it is saved.
struct Sent {
    record: Record,
    reserved: Reserved,
    /// What was not saved before.
    unsaved: Counts,
}

/// What is to be saved, over which revision, and what is wanted and cannot be had.
pub(super) struct Draft {
    pub(super) write: Option<(Record, Option<u64>)>,
    /// When that can be had, in milliseconds since 1970, if nobody else has it before.
    pub(super) free_at_ms: Option<i64>,
}

impl Book {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            me: format!("{:016x}", rand::random::<u64>()),
            known: None,
            reserved: Reserved::default(),
            unsaved: Counts::default(),
            sent: None,
        }
    }

    /// Others may have written the record: it has to be read before anything is taken.
    pub(super) fn close(&mut self) {
        self.known = None;
        self.reserved = Reserved::default();
    }

    /// Whether the record has been read.
    pub(super) fn is_open(&self) -> bool {
        self.known.is_some()
    }

    /// Whether it is known whether what was sent is saved.
    pub(super) fn is_certain(&self) -> bool {
        self.is_open() && self.sent.is_none()
    }

    /// Whether so much is reserved for us.
    pub(super) fn has(&self, cost: u32, now_ms: i64) -> bool {
        self.reserved.count >= cost && now_ms < self.reserved.until_ms
    }

    /// How much is, as long as it is.
    pub(super) fn reserved(&self) -> u32 {
        self.reserved.count
    }

    /// So much was taken.
    pub(super) fn take(&mut self, cost: u32, now_ms: i64) {
        self.reserved.count = self.reserved.count.saturating_sub(cost);
        self.unsaved.add(now_ms, cost);
    }

    /// Whether so much is ours though it is not reserved, because nothing can be: in what was left when
    /// the record was last known, by our `part` of that. What is reserved for us is a part of what was
    /// not left, and ours beside it.
    pub(super) fn may_take_alone(&self, cost: u32, part: impl Fn(u32) -> u32, now_ms: i64) -> bool {
        let Some((record, _)) = &self.known else { return false };
        self.limits.each().all(|(span, limit)| {
            let left = record.left((span, limit), now_ms);
            let ours = part(left).saturating_add(record.reserved_for(&self.me, span, now_ms));
            let sent = self.sent.as_ref().map_or(0, |sent| sent.unsaved.counted(span, now_ms));
            let taken = self.unsaved.counted(span, now_ms).saturating_add(sent);
            let is_alone = span == Span::Minute && taken == 0 && cost <= left;
            taken.saturating_add(cost) <= ours || is_alone
        })
    }

    /// What is left of each limit for all together, as far as it is known; what is reserved is.
    pub(super) fn left(&self, span: Span, now_ms: i64) -> Option<u32> {
        let (record, _) = self.known.as_ref()?;
        let (_, limit) = self.limits.each().find(|(known, _)| *known == span)?;
        let taken = record.taken.counted(span, now_ms);
        let unsaved = self.unsaved.counted(span, now_ms);
        Some(limit.saturating_sub(taken).saturating_sub(unsaved))
    }

    /// The record was read.
    pub(super) fn read(&mut self, record: Record, revision: Option<u64>) {
        match &self.sent {
            // It was saved, and we did not hear of it.
            Some(sent) if sent.record == record => self.saved(revision),
            _ => self.known = Some((record, revision)),
        }
    }

    /// What is to be saved so that these may be taken, as far as there is room for them, and what was
    /// taken is known.
    pub(super) fn draft(&mut self, wishes: &[u32], now_ms: i64) -> Draft {
        if let Some(sent) = self.sent.take() {
            self.unsaved.absorb(&sent.unsaved);
        }
        let Some((mut record, revision)) = self.known.clone() else {
            return Draft { write: None, free_at_ms: None };
        };
        self.unsaved.forget(now_ms);
        record.forget(now_ms);
        let before = record.reserved.remove(&self.me).unwrap_or_default();
        record.taken.absorb(&self.unsaved);
        let room = record.room(self.limits, now_ms);
        let (mut count, mut missing) = (0_u32, None);
        for cost in wishes {
            let sum = count.saturating_add(*cost);
            if sum > room {
                missing = Some(*cost);
                break;
            }
            if count > 0 && sum > self.limits.at_once() {
                break;
            }
            count = sum;
        }
        let reserved = Reserved { count, until_ms: now_ms + super::RESERVED_MS };
        if count > 0 {
            record.reserved.insert(self.me.clone(), reserved);
        }
        let free_at_ms = missing.map(|cost| record.free_at(self.limits, cost, now_ms));
        self.reserved.count = self.reserved.count.min(count);
        let is_same = before.count == count && self.reserved.count == count;
        let is_lasting = count == 0 || before.until_ms > now_ms + super::RENEW_MS;
        if self.unsaved.is_empty() && is_same && is_lasting {
            return Draft { write: None, free_at_ms };
        }
        let unsaved = std::mem::take(&mut self.unsaved);
        self.sent = Some(Sent { record: record.clone(), reserved, unsaved });
        Draft { write: Some((record, revision)), free_at_ms }
    }

    /// What was sent is saved.
    pub(super) fn saved(&mut self, revision: Option<u64>) {
        let Some(Sent { record, reserved, .. }) = self.sent.take() else { return };
        // What was taken meanwhile is of it.
        let count = reserved.count.saturating_sub(self.unsaved.total());
        self.reserved = Reserved { count, ..reserved };
        self.known = Some((record, revision));
    }
}
