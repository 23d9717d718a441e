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
use tracing::{info, warn};

use crate::{
    outlet::{backoff, delay, outlet, report},
    publish::{Window, newest_id, publish},
    source::{ErrorKind, FetchError, Followed, Session, Source},
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
            self.owned.fetch_add(1, Ordering::Relaxed);
            let stop = Stop {
                shutdown: &context.shutdown,
                drain_within: context.shutdown_deadline,
                lost: lease.lost(),
            };
            let end = self.own(&context.broker, &mut window, stop).await;
            self.owned.fetch_sub(1, Ordering::Relaxed);
            if end != End::Lost {
                return lease.release().await;
            }
            self.status.set(SourceState::Standby);
        }
    }

    fn window(&self) -> Window {
        Window::new(self.source.name(), Arc::clone(&self.status))
    }

    /// Runs one session after the other, until the source is at its end or we are to stop.
    async fn own(&self, broker: &Arc<dyn Broker>, window: &mut Window, stop: Stop<'_>) -> End {
        let mut backoff = backoff();
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

    /// One session: fetches and publishes until fetching ends and everything fetched is stored.
    /// What is not, because the lease was lost, stays in the window.
    async fn session(
        &self,
        broker: &Arc<dyn Broker>,
        window: &mut Window,
        stop: Stop<'_>,
    ) -> Result<End, FetchError> {
        let source = self.source.name();
        let stored = tokio::select! {
            end = stop.asked() => return Ok(end),
            stored = newest_id(broker, source) => stored,
        };
        let stored =
            stored.map_err(|fault| FetchError::new(ErrorKind::Broker, fault.to_string()))?;
        if let Some(newest) = &stored {
            info!(%source, newest, "the broker has messages of this source");
        }
        let resume = window.resume(stored);
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
        let publishing = async {
            tokio::select! {
                () = stop.lost.cancelled() => {}
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
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::testing::{FakeBroker, Fault, tick};

    /// Sends ten ticks a session from where it was left, and fails after all but the last session.
    struct Scripted {
        name: schemas::Source,
        sessions: usize,
        resumed: Mutex<Vec<Option<String>>>,
    }

    #[async_trait]
    impl Source for Scripted {
        fn name(&self) -> &schemas::Source {
            &self.name
        }

        fn url(&self) -> String {
            "script:".into()
        }

        async fn run(&self, session: Session) -> Result<(), FetchError> {
            let Session { resume, mut outlet, .. } = session;
            let next = resume
                .as_deref()
                .and_then(|id| id.rsplit(':').next()?.parse::<usize>().ok())
                .map_or(0, |n| n + 1);
            let session = {
                let mut resumed = self.resumed.lock().unwrap();
                resumed.push(resume);
                resumed.len()
            };
            for n in next..next + 10 {
                outlet.send(tick(n)).await;
            }
            if session == self.sessions {
                return Ok(());
            }
            let mut error = FetchError::new(ErrorKind::Connection, "the line is cut");
            error.retry_after = Some(Duration::from_secs(7));
            Err(error)
        }
    }

    fn supervised(sessions: usize) -> (Supervised, Arc<Scripted>) {
        let name = schemas::Source::new("sim").unwrap();
        let source = Arc::new(Scripted { name, sessions, resumed: Mutex::default() });
        let status = Arc::new(Status::of(&source.name, 0));
        let (_, symbols) = Followed::new([].into());
        (Supervised { source: source.clone(), status, symbols, owned: Arc::default() }, source)
    }

    /// Owns the source until it ends, or is stopped by `stopping`.
    async fn own(
        supervised: &Supervised,
        broker: &FakeBroker,
        window: &mut Window,
        stopping: impl AsyncFnOnce(&CancellationToken, &CancellationToken),
    ) -> End {
        let (shutdown, lost) = (CancellationToken::new(), CancellationToken::new());
        let drain_within = Duration::from_secs(5);
        let stop = Stop { shutdown: &shutdown, drain_within, lost: &lost };
        let shared = broker.shared();
        tokio::join!(supervised.own(&shared, window, stop), stopping(&shutdown, &lost)).0
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| tick(n).id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_it_goes_on_from_what_is_stored() {
        let (supervised, source) = supervised(3);
        let broker = FakeBroker::new([Fault::Confirm { after: 3 }]);
        let start = Instant::now();
        let mut window = supervised.window();
        let end = own(&supervised, &broker, &mut window, async |_, _| {}).await;
        assert_eq!(end, End::Finished);
        assert_eq!(broker.ids(), ids(30));
        let resumed = source.resumed.lock().unwrap().clone();
        assert_eq!(resumed, [None, Some("sim:1:1:9".into()), Some("sim:1:1:19".into())]);
        assert!(start.elapsed() >= Duration::from_secs(14), "Retry-After is honoured");
        let status = supervised.status.snapshot();
        assert_eq!(status.state, SourceState::Finished);
        assert_eq!(status.last_error.as_deref(), Some("the line is cut"));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_drains_what_was_fetched() {
        let (supervised, source) = supervised(usize::MAX);
        let broker = FakeBroker::new([]);
        let mut window = supervised.window();
        let end = own(&supervised, &broker, &mut window, async |shutdown, _| {
            sleep(Duration::from_secs(60)).await;
            shutdown.cancel();
        });
        assert_eq!(end.await, End::Shutdown);
        assert_eq!(broker.ids(), ids(10 * source.resumed.lock().unwrap().len()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_stays_away_does_not_hold_up_shutdown() {
        let (supervised, _) = supervised(1);
        let broker = FakeBroker::new(std::iter::repeat_n(Fault::Open, 1_000));
        let start = Instant::now();
        let mut window = supervised.window();
        let end = own(&supervised, &broker, &mut window, async |shutdown, _| {
            sleep(Duration::from_secs(3)).await;
            shutdown.cancel();
        });
        assert_eq!(end.await, End::Shutdown);
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fetched_when_the_lease_was_lost_is_published_when_it_is_back() {
        let (supervised, source) = supervised(2);
        let away = FakeBroker::new(std::iter::repeat_n(Fault::Open, 1_000));
        let mut window = supervised.window();
        let lost = Instant::now() + Duration::from_secs(3);
        let end = own(&supervised, &away, &mut window, async |_, lease| {
            tokio::time::sleep_until(lost).await;
            lease.cancel();
        });
        assert_eq!(end.await, End::Lost);
        assert_eq!(Instant::now(), lost, "it stops at once");
        let back = FakeBroker::new([]);
        let end = own(&supervised, &back, &mut window, async |_, _| {}).await;
        assert_eq!(end, End::Finished);
        assert_eq!(back.ids(), ids(20));
        let resumed = source.resumed.lock().unwrap().clone();
        assert_eq!(resumed, [None, Some("sim:1:1:9".into())]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_whose_end_is_not_published_is_not_at_its_end() {
        let (supervised, _) = supervised(1);
        let away = FakeBroker::new(std::iter::repeat_n(Fault::Open, 1_000));
        let mut window = supervised.window();
        let end = own(&supervised, &away, &mut window, async |_, lease| {
            sleep(Duration::from_secs(3)).await;
            lease.cancel();
        });
        assert_eq!(end.await, End::Lost);
        assert!(!window.is_empty());
        assert_ne!(supervised.status.snapshot().state, SourceState::Finished);
    }
}
