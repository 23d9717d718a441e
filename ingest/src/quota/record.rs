//! What an account was asked for, by all instances, as it is kept for all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::free_at;

/// A time that a provider counts in.
///
/// What is taken is counted in slots of it, and a slot as of its end: it counts for a slot's length
/// too long at most, and never too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    Minute,
    Day,
}

impl Span {
    fn length_ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Day => 24 * 60 * 60 * 1_000,
        }
    }

    fn slot_secs(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Day => 5 * 60,
        }
    }

    /// The second in which the slot of a time begins.
    fn slot(self, at_ms: i64) -> i64 {
        at_ms.div_euclid(1_000).div_euclid(self.slot_secs()) * self.slot_secs()
    }

    /// When what was taken in a slot counts no more.
    fn leaves(self, slot: i64) -> i64 {
        slot.saturating_add(self.slot_secs()).saturating_mul(1_000).saturating_add(self.length_ms())
    }
}

/// How much an account may be asked for; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) minute: u32,
    pub(super) day: u32,
}

impl Limits {
    /// How much a process reserves at once, beside a single request: little enough that what one takes
    /// with it that is killed is not missed, and enough for each second.
    pub(super) fn at_once(self) -> u32 {
        let parts = self.each().map(|(span, limit)| match span {
            Span::Minute => limit / 4,
            Span::Day => limit / 16,
        });
        parts.min().unwrap_or(u32::MAX)
    }

    /// Those that there are.
    pub(super) fn each(self) -> impl Iterator<Item = (Span, u32)> {
        [(Span::Minute, self.minute), (Span::Day, self.day)].into_iter().filter(|(_, l)| *l > 0)
    }
}

/// How much was taken, by the second in which a slot begins, counted from 1970 on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    minute: BTreeMap<i64, u32>,
    day: BTreeMap<i64, u32>,
}

impl Counts {
    /// So much was taken at that time.
    pub(super) fn add(&mut self, at_ms: i64, count: u32) {
        for span in [Span::Minute, Span::Day] {
            add(self.slots_mut(span), span.slot(at_ms), count);
        }
    }

    /// So much more was taken.
    pub(super) fn absorb(&mut self, others: &Self) {
        for span in [Span::Minute, Span::Day] {
            let slots = self.slots_mut(span);
            others.slots(span).iter().for_each(|(slot, count)| add(slots, *slot, *count));
        }
    }

    /// Lets go of what counts no more. What a wrong clock has put into the future is as of now, so
    /// that it does not count for ever.
    pub(super) fn forget(&mut self, now_ms: i64) {
        for span in [Span::Minute, Span::Day] {
            let slots = self.slots_mut(span);
            slots.retain(|slot, _| span.leaves(*slot) > now_ms);
            let current = span.slot(now_ms);
            for count in slots.split_off(&(current + 1)).into_values() {
                add(slots, current, count);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.day.is_empty()
    }

    /// All of a day.
    pub(super) fn total(&self) -> u32 {
        self.day.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How much counts.
    pub(super) fn counted(&self, span: Span, now_ms: i64) -> u32 {
        counted(self.leaving(span), now_ms)
    }

    /// When how much counts no more.
    fn leaving(&self, span: Span) -> impl Iterator<Item = (i64, u32)> {
        self.slots(span).iter().map(move |(slot, count)| (span.leaves(*slot), *count))
    }

    fn slots(&self, span: Span) -> &BTreeMap<i64, u32> {
        match span {
            Span::Minute => &self.minute,
            Span::Day => &self.day,
        }
    }

    fn slots_mut(&mut self, span: Span) -> &mut BTreeMap<i64, u32> {
        match span {
            Span::Minute => &mut self.minute,
            Span::Day => &mut self.day,
        }
    }
}

fn add(slots: &mut BTreeMap<i64, u32>, slot: i64, count: u32) {
    let known = slots.entry(slot).or_default();
    *known = known.saturating_add(count);
}

fn counted(leaving: impl Iterator<Item = (i64, u32)>, now_ms: i64) -> u32 {
    leaving
        .filter(|(leaves, _)| *leaves > now_ms)
        .fold(0, |sum, (_, count)| sum.saturating_add(count))
}

/// What a process may take without asking anybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserved {
    pub(super) count: u32,
    /// Until when it may, in milliseconds since 1970.
    pub(super) until_ms: i64,
}

impl Reserved {
    fn leaves(self, span: Span) -> i64 {
        self.until_ms.saturating_add(span.length_ms())
    }
}

/// What is known of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(super) taken: Counts,
    /// By process. What is reserved counts, as if it were taken at its end.
    pub(super) reserved: BTreeMap<String, Reserved>,
}

impl Record {
    /// What is reserved and was over for this long is taken for good. Until then its process may come
    /// back and say how much of it was.
    const COMES_BACK_WITHIN_MS: i64 = 60_000;

    /// Lets go of what counts no more.
    pub(super) fn forget(&mut self, now_ms: i64) {
        let Self { taken, reserved } = self;
        let latest = now_ms + super::RESERVED_MS;
        reserved.retain(|_, reserved| {
            // A wrong clock may have put it into the future.
            reserved.until_ms = reserved.until_ms.min(latest);
            let is_over = reserved.until_ms + Self::COMES_BACK_WITHIN_MS <= now_ms;
            if is_over {
                taken.add(reserved.until_ms, reserved.count);
            }
            !is_over
        });
        taken.forget(now_ms);
    }

    /// How much of a limit is left.
    pub(super) fn left(&self, (span, limit): (Span, u32), now_ms: i64) -> u32 {
        limit.saturating_sub(counted(self.leaving(span), now_ms))
    }

    /// How much may be taken now.
    pub(super) fn room(&self, limits: Limits, now_ms: i64) -> u32 {
        limits.each().map(|limit| self.left(limit, now_ms)).min().unwrap_or(u32::MAX)
    }

    /// What is reserved for a process, as long as it counts.
    pub(super) fn reserved_for(&self, process: &str, span: Span, now_ms: i64) -> u32 {
        let reserved = self.reserved.get(process).filter(|reserved| reserved.leaves(span) > now_ms);
        reserved.map_or(0, |reserved| reserved.count)
    }

    /// When so much may be taken, if nothing else is before.
    pub(super) fn free_at(&self, limits: Limits, cost: u32, now_ms: i64) -> i64 {
        let each = limits.each().map(|(span, limit)| {
            let mut leaving: Vec<_> =
                self.leaving(span).filter(|(leaves, _)| *leaves > now_ms).collect();
            leaving.sort_unstable();
            let counted = counted(leaving.iter().copied(), now_ms);
            let excess = counted.saturating_add(cost).saturating_sub(limit);
            free_at(excess, leaving.into_iter(), now_ms)
        });
        each.max().unwrap_or(now_ms)
    }

    /// When how much counts no more.
    fn leaving(&self, span: Span) -> impl Iterator<Item = (i64, u32)> {
        let reserved = self.reserved.values();
        let reserved = reserved.map(move |reserved| (reserved.leaves(span), reserved.count));
        self.taken.leaving(span).chain(reserved)
    }
}
