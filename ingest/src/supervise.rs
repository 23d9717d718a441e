//! Keeping one source running: owned by one instance at a time, restarted after failures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nats::Broker;
use schemas::{http::SourceState, subject};
use service::Context;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    outlet::{backoff, delay, outlet, report},
    ownership,
    publish::{Window, newest_id, publish},
    source::{ErrorKind, FetchError, Followed, Session, Source},
    spool::{Spool, SpoolPlace},
    status::Status,
    stored::Stored,
};

/// A session that lasted this long was a good one: the next wait is short again.
const LASTING: Duration = Duration::from_secs(60);

/// What the supervision of a source needs.
pub(crate) struct Supervised {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) status: Arc<Status>,
    /// The symbols that it is to fetch.
    pub(crate) symbols: Followed,
    /// Where it spools what cannot be published; nowhere where it can wait, or is to.
    pub(crate) spool: Option<SpoolPlace>,
    /// How many sources this instance owns.
    pub(crate) owned: Arc<AtomicU64>,
}

impl Supervised {
    /// Runs the source whenever this instance owns its lease, until shutdown or until the source
    /// is at its end.
    pub(crate) async fn run(self, context: Context) {
        let key = format!("ingest.{}", subject::key_of(self.source.name()));
        let mut window = self.window();
        let mut backoff = backoff();
        loop {
            let lease = tokio::select! {
                () = context.shutdown.cancelled() => return,
                lease = context.nats.lease(&key, &context.instance) => lease,
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    warn!(source = %self.source.name(), %error, "the lease cannot be had");
                    self.status.failed(&error);
                    pause(backoff.next_delay(), &context.shutdown).await;
                    continue;
                }
            };
            backoff.reset();
            self.open_spool(&mut window);
            self.owned.fetch_add(1, Ordering::Relaxed);
            let (lost, done) = (CancellationToken::new(), CancellationToken::new());
            let stop = Stop {
                shutdown: &context.shutdown,
                drain_within: context.shutdown_deadline,
                lost: &lost,
            };
            let can_spool = window.spools();
            let owning = async {
                let end = self.own(&context.broker, &mut window, stop).await;
                done.cancel();
                end
            };
            let keeping = ownership::keep(&context, &key, lease, can_spool, &lost, &done);
            let (end, lease) = tokio::join!(owning, keeping);
            self.owned.fetch_sub(1, Ordering::Relaxed);
            if end != End::Lost {
                // Whoever has the lease next may open the spool.
                drop(window);
                if let Some(lease) = lease {
                    lease.release().await;
                }
                return;
            }
            self.status.set(SourceState::Standby);
        }
    }

    /// Opens the spool with what an earlier process has left in it, once we own the source. Without
    /// one the source is paused while the broker is away.
    fn open_spool(&self, window: &mut Window) {
        let (Some(place), false) = (&self.spool, window.spools()) else { return };
        let source = self.source.name();
        match Spool::open(place, source) {
            Ok(spool) => window.spool_into(spool),
            Err(fault) => {
                let folder = place.folder.display();
                error!(%source, %folder, %fault, "the spool cannot be opened");
                self.status.failed(format!("the spool {folder} cannot be opened: {fault}"));
            }
        }
    }

    fn window(&self) -> Window {
        Window::new(self.source.name(), Arc::clone(&self.status))
    }

    /// Runs one session after the other, until the source is at its end or we are to stop.
    async fn own(&self, broker: &Arc<dyn Broker>, window: &mut Window, stop: Stop<'_>) -> End {
        let mut backoff = backoff();
        // Another instance may have gone on since: the broker is asked.
        window.begin();
        loop {
            self.status.set(SourceState::Starting);
            let started = Instant::now();
            let error = match self.session(broker, window, stop).await {
                Ok(End::Finished) => {
                    self.status.set(SourceState::Finished);
                    return End::Finished;
                }
                Ok(end) => return end,
                Err(error) => error,
            };
            report(self.source.name(), &self.status, &error);
            self.status.set(SourceState::BackingOff);
            if started.elapsed() >= LASTING {
                backoff.reset();
            }
            tokio::select! {
                end = stop.asked() => return end,
                () = sleep(delay(&error, &mut backoff)) => {}
            }
        }
    }

    /// One session: fetches and publishes until fetching ends and everything fetched is stored or
    /// spooled. What is not, because the lease was lost, stays in the window; a source that spools
    /// publishes it even then, because it has it alone.
    ///
    /// The first session of an owner goes on from what the broker has; the others need not ask where
    /// there is a spool, because nobody else has published since.
    async fn session(
        &self,
        broker: &Arc<dyn Broker>,
        window: &mut Window,
        stop: Stop<'_>,
    ) -> Result<End, FetchError> {
        let source = self.source.name();
        let resume = match window.goes_on() {
            Some(newest) => Some(newest),
            None => {
                let stored = tokio::select! {
                    end = stop.asked() => return Ok(end),
                    stored = newest_id(broker, source) => stored,
                };
                let stored = stored
                    .map_err(|fault| FetchError::new(ErrorKind::Broker, fault.to_string()))?;
                if let Some(newest) = &stored {
                    info!(%source, newest, "the broker has messages of this source");
                }
                window.resume(stored)
            }
        };
        let (outlet, mut intake) = outlet(source, Arc::clone(&self.status));
        let stored = Stored::new(broker, source);
        let session = Session { resume, stored, symbols: self.symbols.clone(), outlet };
        // Whichever way fetching ends, its outlet is dropped, and that ends publishing.
        let fetching = async {
            tokio::select! {
                end = stop.asked() => Ok(end),
                ended = self.source.run(session) => ended.map(|()| End::Finished),
            }
        };
        let spools = window.spools();
        let publishing = async {
            tokio::select! {
                () = stop.lost.cancelled(), if !spools => {}
                () = publish(broker, window, &mut intake) => {}
                () = stop.drained() => warn!(%source, "stopped before the broker had everything"),
            }
        };
        let (mut end, ()) = tokio::join!(fetching, publishing);
        while let Ok(payload) = intake.try_recv() {
            window.push(payload);
        }
        // At its end is only what is also published.
        if !window.is_empty() && matches!(end, Ok(End::Finished)) {
            end = Ok(if stop.lost.is_cancelled() { End::Lost } else { End::Shutdown });
        }
        end
    }
}

/// When a source is to stop.
#[derive(Clone, Copy)]
struct Stop<'a> {
    /// Stop fetching, and publish what was fetched.
    shutdown: &'a CancellationToken,
    /// How long that may take.
    drain_within: Duration,
    /// Another instance may own the source now: stop at once.
    lost: &'a CancellationToken,
}

impl Stop<'_> {
    async fn asked(&self) -> End {
        tokio::select! {
            () = self.shutdown.cancelled() => End::Shutdown,
            () = self.lost.cancelled() => End::Lost,
        }
    }

    /// The time to drain after a shutdown is over.
    async fn drained(&self) {
        self.shutdown.cancelled().await;
        sleep(self.drain_within).await;
    }
}

/// Why a session ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The source has nothing more.
    Finished,
    /// The process stops.
    Shutdown,
    /// The lease is lost.
    Lost,
}

async fn pause(time: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sleep(time) => {}
    }
}

#[cfg(test)]
mod tests;
