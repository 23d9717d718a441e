//! What one source fetched and the broker is not known to have.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    io,
    sync::Arc,
};

use metrics::{Counter, Gauge};
use nats::Receipt;
use schemas::{RawTick, subject};
use tracing::warn;

use super::{BATCH, Mark};
use crate::{metrics as names, place::Keeper, spool::Spool, status::Status};

/// How many payloads, and but for the last batch how many bytes of them, are in memory at most.
pub(super) const WINDOW: usize = 4_096;
const WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// What was fetched and is not confirmed, in three parts, oldest first: what was sent in this
/// session; what is in the spool, where there is one; and what is in memory and to be sent.
pub(crate) struct Window {
    pub(super) source: schemas::Source,
    /// Whether other instances publish what they fetch of it at the same time.
    is_divided: bool,
    pub(super) status: Arc<Status>,
    sent: VecDeque<RawTick>,
    /// How many of the oldest that were sent are in the spool, too.
    sent_of_spool: usize,
    pub(super) spool: Option<Spool>,
    waiting: VecDeque<RawTick>,
    /// Of the bodies in memory.
    bytes: usize,
    newest_confirmed: Option<String>,
    /// The newest that was fetched, while this instance owns the source.
    newest: Option<String>,
    /// Who is told what is stored, of a source that is played only once.
    keeper: Option<Arc<Keeper>>,
    published: Counter,
    duplicates: Counter,
    in_flight: Gauge,
}

impl Window {
    pub(crate) fn new(source: &schemas::Source, is_divided: bool, status: Arc<Status>) -> Self {
        Self {
            source: source.clone(),
            is_divided,
            status,
            sent: VecDeque::with_capacity(WINDOW),
            sent_of_spool: 0,
            spool: None,
            waiting: VecDeque::new(),
            bytes: 0,
            newest_confirmed: None,
            newest: None,
            keeper: None,
            published: names::published(source),
            duplicates: names::duplicates(source),
            in_flight: names::in_flight(),
        }
    }

    /// From now on what cannot be published goes into this spool; what it holds comes first.
    pub(crate) fn spool_into(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    /// From now on this keeper is told what is stored.
    pub(crate) fn keep_place_in(&mut self, keeper: Arc<Keeper>) {
        self.keeper = Some(keeper);
    }

    /// Who keeps the place of the source, beyond what the stream keeps.
    pub(crate) fn keeper(&self) -> Option<Arc<Keeper>> {
        self.keeper.clone()
    }

    /// Whether there is a spool.
    pub(crate) fn spools(&self) -> bool {
        self.spool.is_some()
    }

    /// We own the source (again): where fetching goes on is to be asked.
    pub(crate) fn begin(&mut self) {
        self.newest = None;
    }

    /// Where fetching goes on, now that we own the source (again): `stored` is the id of its newest
    /// message that the broker has.
    ///
    /// What we had fetched and not confirmed when the lease was lost comes first, unless another
    /// instance has published since: then what is in memory is old, and would come out of order. What
    /// is spooled is published all the same: order is less than a payload, and its id is known again.
    pub(crate) fn resume(&mut self, stored: Option<String>) -> Option<String> {
        let spooled = self.spool.as_ref().and_then(Spool::newest_id).map(str::to_owned);
        let mut in_memory = self.sent.iter().chain(&self.waiting);
        let is_ours = spooled.is_some()
            || stored.is_none()
            || stored == self.newest_confirmed
            || in_memory.any(|payload| Some(&payload.id) == stored.as_ref());
        if !is_ours && !self.is_empty() {
            let (source, payloads) = (&self.source, self.sent.len() + self.waiting.len());
            warn!(%source, payloads, "another instance has gone on; what was left here is dropped");
            self.clear();
        }
        let last = self.waiting.back().map(|payload| payload.id.clone()).or(spooled);
        self.newest = last.or_else(|| Some(self.sent.back()?.id.clone())).or(stored);
        self.newest.clone()
    }

    /// Where fetching goes on without asking the broker: behind the newest that was fetched, where
    /// there is a spool for it and that is known.
    pub(crate) fn goes_on(&self) -> Option<String> {
        self.newest.clone().filter(|_| self.spools())
    }

    /// Keeps what was fetched and not yet sent.
    pub(crate) fn push(&mut self, payload: RawTick) {
        self.newest = Some(payload.id.clone());
        self.bytes += payload.body.len();
        self.waiting.push_back(payload);
        self.in_flight.increment(1);
    }

    /// Whether everything in it is confirmed.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty() && !self.has_spooled()
    }

    /// How many are in memory and not confirmed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// Whether a receipt is to come.
    pub(super) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Whether there is something to send, and where it is in the spool, room in memory.
    pub(super) fn can_send(&self) -> bool {
        if self.is_behind_spool() {
            self.sent.is_empty() || !self.is_full()
        } else {
            !self.waiting.is_empty()
        }
    }

    /// Whether something of the spool is to be sent before what is fetched now.
    pub(super) fn is_behind_spool(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::has_unread)
    }

    /// Whether more may be fetched: into the window, or behind what is in the spool.
    pub(super) fn takes(&self) -> bool {
        if self.is_behind_spool() { self.takes_meanwhile() } else { !self.is_full() }
    }

    /// The same while there is no session: what is fetched is for the spool.
    pub(super) fn takes_meanwhile(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| self.waiting.is_empty() && !spool.is_full())
    }

    /// Whether there is nothing that a process that ends here would lose.
    pub(super) fn is_safe(&self) -> bool {
        self.spools() && self.sent.is_empty() && self.waiting.is_empty()
    }

    /// The next to be sent, at most so many: they count as sent.
    pub(super) fn send(&mut self, at_most: usize) -> io::Result<impl Iterator<Item = &RawTick>> {
        let first = self.sent.len();
        let spooled = match &mut self.spool {
            Some(spool) => spool.read(at_most)?,
            None => Vec::new(),
        };
        if spooled.is_empty() {
            self.sent.extend(self.waiting.drain(..at_most.min(self.waiting.len())));
        } else {
            self.sent_of_spool += spooled.len();
            self.bytes += spooled.iter().map(|payload| payload.body.len()).sum::<usize>();
            self.in_flight.increment(spooled.len() as f64);
            self.sent.extend(spooled);
        }
        Ok(self.sent.range(first..))
    }

    /// The session has died: what was sent is to be sent again.
    pub(super) fn unsend(&mut self) {
        for payload in self.sent.drain(..self.sent_of_spool.min(self.sent.len())) {
            self.bytes -= payload.body.len();
            self.in_flight.decrement(1);
        }
        self.sent_of_spool = 0;
        while let Some(payload) = self.sent.pop_back() {
            self.waiting.push_front(payload);
        }
        if let Some(spool) = &mut self.spool {
            spool.rewind();
        }
    }

    /// Moves what waits in memory into the spool, where there is one.
    pub(super) async fn spool_waiting(&mut self) -> io::Result<()> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        if self.waiting.is_empty() {
            return Ok(());
        }
        spool.append(self.waiting.make_contiguous())?;
        spool.tell_full();
        self.in_flight.decrement(self.waiting.len() as f64);
        let moved = self.waiting.drain(..).map(|payload| payload.body.len());
        self.bytes -= moved.sum::<usize>();
        spool.sync().await
    }

    /// The subjects whose newest messages say how much of it is stored: none where nothing is in it.
    pub(super) fn subjects(&mut self) -> io::Result<BTreeSet<String>> {
        if self.is_empty() {
            return Ok(BTreeSet::new());
        }
        if !self.is_divided {
            return Ok([subject::all_raw_of(&self.source)].into());
        }
        let subject = |payload: &RawTick| subject::raw(&payload.source, payload.symbol.as_ref());
        let mut subjects: BTreeSet<_> = self.waiting.iter().map(subject).collect();
        if let Some(spool) = &mut self.spool {
            spool.look_through(WINDOW as u64, |payload| subjects.extend([subject(payload)]))?;
        }
        Ok(subjects)
    }

    /// These are stored, and everything of ours up to them.
    pub(super) fn stored(&mut self, mut newest: HashSet<Mark>) -> io::Result<()> {
        if newest.is_empty() {
            return Ok(());
        }
        let mut is_newest = |payload: &RawTick| {
            newest.remove(&(payload.id.clone(), payload.received_at)).then(|| payload.id.clone())
        };
        if let Some(spool) = &mut self.spool
            && !spool.is_empty()
        {
            let (mut looked_at, mut found) = (0, None);
            spool.look_through(WINDOW as u64, |payload| {
                looked_at += 1;
                found = is_newest(payload).map(|id| (looked_at, id)).or(found.take());
            })?;
            if let Some((records, id)) = found {
                spool.confirm(records);
                self.published.increment(records);
                self.newest_confirmed = Some(id);
            }
        }
        let found = self.waiting.iter().map(is_newest).enumerate().filter(|(_, id)| id.is_some());
        if let Some((newest, _)) = found.last() {
            if let Some(spool) = &mut self.spool {
                spool.confirm(u64::MAX);
            }
            self.sent.extend(self.waiting.drain(..=newest));
            while self.has_sent() {
                self.confirmed(Receipt { duplicate: false, sequence: 0 });
            }
        }
        Ok(())
    }

    pub(super) fn confirmed(&mut self, receipt: Receipt) {
        let Some(payload) = self.sent.pop_front() else { return };
        if self.sent_of_spool > 0 {
            self.sent_of_spool -= 1;
            if let Some(spool) = &mut self.spool {
                spool.confirm(1);
            }
        }
        self.bytes -= payload.body.len();
        if let Some(keeper) = &self.keeper {
            keeper.stored(&payload.id, receipt.sequence);
        }
        self.newest_confirmed = Some(payload.id);
        self.in_flight.decrement(1);
        if receipt.duplicate {
            self.duplicates.increment(1);
        } else {
            self.published.increment(1);
            self.status.published();
        }
    }

    pub(super) fn has_spooled(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    pub(super) fn is_full(&self) -> bool {
        self.unconfirmed() + BATCH > WINDOW || self.bytes >= WINDOW_BYTES
    }

    fn clear(&mut self) {
        self.in_flight.decrement(self.unconfirmed() as f64);
        self.sent.clear();
        self.waiting.clear();
        self.sent_of_spool = 0;
        self.bytes = 0;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.clear();
    }
}
