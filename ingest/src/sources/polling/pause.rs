//! How all requests to a provider wait after a fault of it.

use service::Backoff;
use tokio::time::Instant;

use crate::{
    outlet::{backoff, delay},
    source::FetchError,
};

/// How long the provider is left alone.
pub(super) struct Pause {
    backoff: Backoff,
    /// When the last pause began.
    since: Instant,
    until: Instant,
    probing: bool,
}

impl Pause {
    /// None yet.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { backoff: backoff(), since: now, until: now, probing: false }
    }

    /// A request that began at `started` has failed. Of those that were under way together the
    /// first begins the pause; the others lengthen it only where the provider asks for that.
    pub(super) fn failed(&mut self, error: &FetchError, started: Instant) {
        let now = Instant::now();
        if self.probing && started < self.since {
            self.until = self.until.max(now + error.retry_after.unwrap_or_default());
        } else {
            self.until = now + delay(error, &mut self.backoff);
            self.since = now;
            self.probing = true;
        }
    }

    /// A request that began at `started` was answered well: if that was after the pause, it is over.
    pub(super) fn worked(&mut self, started: Instant) {
        if self.probing && started >= self.since {
            self.probing = false;
            self.backoff.reset();
        }
    }

    /// Before this nothing is asked for.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Nothing is asked for now.
    pub(super) fn is_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Since the pause began nothing was answered well: one request at a time is enough.
    pub(super) fn is_probing(&self) -> bool {
        self.probing
    }
}
