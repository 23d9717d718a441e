//! One candle, from its first trade until nothing can come late any more.

use jiff::Timestamp;
use schemas::{CandleBuilder, CandleUpdate, Print};

/// A candle and what is known of it outside.
pub(super) struct Window {
    builder: CandleBuilder,
    /// The event time at which its trading is over.
    pub(super) closes: Timestamp,
    /// 0 while it runs; how often it was published since.
    revision: u32,
    /// The newest sequence in it, and the one that its newest revision was published with.
    seq: u64,
    published_seq: u64,
    /// The sequence in `CANDLES` of its newest revision, once it is stored.
    stored: Option<u64>,
}

impl Window {
    pub(super) fn new(builder: CandleBuilder, closes: Timestamp, seq: u64) -> Self {
        Self { builder, closes, revision: 0, seq, published_seq: 0, stored: None }
    }

    /// A candle as it was saved: running, or as a revision that is stored at this sequence.
    pub(super) fn resume(update: CandleUpdate, closes: Timestamp, stored: Option<u64>) -> Self {
        let CandleUpdate { candle, revision, seq, closed: _ } = update;
        let builder = CandleBuilder::resume(candle);
        Self { builder, closes, revision, seq, published_seq: seq, stored }
    }

    /// Takes a trade in; false where it is not counted because its size cannot be added exactly.
    pub(super) fn add(&mut self, print: &Print, seq: u64) -> bool {
        if seq <= self.seq {
            // It is in it already: it is read again after a crash.
            return true;
        }
        let is_added = self.builder.add(print).is_ok();
        if is_added {
            self.seq = seq;
        }
        is_added
    }

    pub(super) fn holds(&self, ts: Timestamp) -> bool {
        self.builder.start() <= ts && ts < self.builder.end()
    }

    pub(super) fn start(&self) -> Timestamp {
        self.builder.start()
    }

    pub(super) fn end(&self) -> Timestamp {
        self.builder.end()
    }

    pub(super) fn is_running(&self) -> bool {
        self.revision == 0
    }

    /// It was published, and a trade has come since.
    pub(super) fn is_stale(&self) -> bool {
        !self.is_running() && self.seq > self.published_seq
    }

    /// Its newest revision is stored, and there is nothing to add to it.
    pub(super) fn is_settled(&self) -> bool {
        self.stored.is_some() && !self.is_stale()
    }

    pub(super) fn stored(&self) -> Option<u64> {
        self.stored
    }

    pub(super) fn revision(&self) -> u32 {
        self.revision
    }

    /// That revision is stored.
    pub(super) fn confirm(&mut self, revision: u32, sequence: u64) {
        if revision == self.revision {
            self.stored = Some(sequence);
        }
    }

    /// Its next revision.
    pub(super) fn close(&mut self) -> CandleUpdate {
        self.revision += 1;
        self.published_seq = self.seq;
        self.stored = None;
        self.update()
    }

    /// How it is now.
    pub(super) fn update(&self) -> CandleUpdate {
        CandleUpdate {
            candle: self.builder.candle(),
            closed: !self.is_running(),
            revision: self.revision,
            seq: self.seq,
        }
    }
}
