//! Where a source puts what it fetched.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use schemas::{
    RawTick,
    http::{QuotaLeft, SourceState},
};
use service::Backoff;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    metrics,
    source::{ErrorKind, FetchError},
    status::Status,
};

/// The largest payload that is published, in bytes. Together with its headers, and wrapped into a
/// rejection, it stays well below the 1 MiB that NATS takes by default.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 512 * 1024;

/// How many payloads wait for the publisher before their source is held back.
const CAPACITY: usize = 256;

/// The first and the longest wait after a failure, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A failure is waited out from this bound on, doubling.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(BACKOFF.0, BACKOFF.1)
}

/// Where a source puts what it fetched. Bounded: while the broker is away, the source waits here.
pub(crate) struct Outlet {
    source: schemas::Source,
    sender: Sender<RawTick>,
    status: Arc<Status>,
    /// What came through it last was no failure.
    running: bool,
    /// It counts among those that wait.
    waits: bool,
    /// How many outlets of the source wait after a failure: it runs where none does.
    waiting: Arc<AtomicUsize>,
}

/// An outlet and its other end.
pub(crate) fn outlet(source: &schemas::Source, status: Arc<Status>) -> (Outlet, Receiver<RawTick>) {
    let (sender, intake) = mpsc::channel(CAPACITY);
    let (source, waiting) = (source.clone(), Arc::default());
    (Outlet { source, sender, status, running: false, waits: false, waiting }, intake)
}

impl Outlet {
    /// The same for another connection of the source, which fails by itself.
    pub(crate) fn another(&self) -> Self {
        let (source, sender) = (self.source.clone(), self.sender.clone());
        let (status, waiting) = (Arc::clone(&self.status), Arc::clone(&self.waiting));
        Self { source, sender, status, running: false, waits: false, waiting }
    }

    /// Hands a payload over. One that is too large to be published is counted and logged.
    pub(crate) async fn send(&mut self, tick: RawTick) {
        self.alive();
        if tick.body.len() > MAX_PAYLOAD_BYTES {
            let fault = format!("the payload {} has more than {MAX_PAYLOAD_BYTES} bytes", tick.id);
            self.failed(&FetchError::new(ErrorKind::TooLarge, fault));
            return;
        }
        // The publisher outlives its source; where it is gone, so are we at the next await.
        let _ = self.sender.send(tick).await;
    }

    /// The source works, whether it has something to publish or not.
    pub(crate) fn alive(&mut self) {
        self.status.heard();
        if !self.running {
            self.running = true;
            self.recover();
        }
    }

    /// Nothing is to be fetched through it for now.
    pub(crate) fn rest(&mut self) {
        if self.waits {
            self.recover();
        }
    }

    /// Whatever it waited for is over.
    fn recover(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if self.waiting.load(Ordering::Relaxed) == 0 {
            self.status.set(SourceState::Running);
        }
    }

    /// The provider gave the same as the last time.
    pub(crate) fn unchanged(&mut self) {
        self.alive();
        metrics::unchanged(&self.source).increment(1);
    }

    /// So much is left of the provider's quota.
    pub(crate) fn quota(&self, left: QuotaLeft) {
        self.status.quota(left);
    }

    /// The provider had so many events more than it gave us.
    pub(crate) fn missed(&self, events: u64, gap: &impl Display) {
        metrics::missed(&self.source).increment(events);
        self.failed(&FetchError::new(ErrorKind::Missed, gap.to_string()));
    }

    /// Something failed, and the session goes on.
    pub(crate) fn failed(&self, error: &FetchError) {
        report(&self.source, &self.status, error);
    }

    /// Something failed, and the session goes on after a wait as long as the provider asks for, or
    /// as `backoff` says.
    pub(crate) async fn back_off(&mut self, error: &FetchError, backoff: &mut Backoff) {
        self.failed(error);
        self.backing_off();
        sleep(delay(error, backoff)).await;
    }

    /// The source waits after a failure.
    pub(crate) fn backing_off(&mut self) {
        if !std::mem::replace(&mut self.waits, true) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.status.set(SourceState::BackingOff);
        self.running = false;
    }
}

/// How long to stay away after this failure.
pub(crate) fn delay(error: &FetchError, backoff: &mut Backoff) -> Duration {
    let delay = backoff.next_delay().max(error.retry_after.unwrap_or_default());
    debug!(?delay, "backing off");
    delay
}

/// Counts, logs and remembers a failure.
pub(crate) fn report(source: &schemas::Source, status: &Status, error: &FetchError) {
    metrics::fetch_errors(source, error.kind).increment(1);
    warn!(%source, kind = error.kind.as_str(), %error, "fetching failed");
    status.failed(error);
}
