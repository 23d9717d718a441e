//! A scripted source and a broker in memory.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::testing::{FakeBroker, Fault, tick};

/// Sends ten ticks a session from where it was left, and fails after all but the last session.
struct Scripted {
    name: schemas::Source,
    divides: bool,
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

    fn divides(&self) -> bool {
        self.divides
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

fn none() -> Followed {
    Followed::new([].into()).1
}

fn supervised(sessions: usize) -> (Supervised, Arc<Scripted>) {
    supervised_as(sessions, false)
}

fn supervised_as(sessions: usize, divides: bool) -> (Supervised, Arc<Scripted>) {
    let name = schemas::Source::new("sim").unwrap();
    let source = Arc::new(Scripted { name, divides, sessions, resumed: Mutex::default() });
    let status = Arc::new(Status::of(&source.name));
    let symbols = watch::channel(Arc::default()).1;
    let due = watch::channel(BTreeSet::new()).1;
    let fetched = Arc::default();
    let (leases, spool) = (Arc::default(), None);
    (Supervised { source: source.clone(), status, symbols, due, leases, spool, fetched }, source)
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
    let moved = CancellationToken::new();
    let stop = Stop { shutdown: &shutdown, drain_within, moved: &moved, lost: &lost };
    let shared = broker.shared();
    let followed = none();
    let owning = supervised.own(&shared, &followed, window, stop);
    tokio::join!(owning, stopping(&shutdown, &lost)).0
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
async fn what_was_under_way_when_the_lease_was_lost_is_published_when_it_is_back() {
    let (supervised, _) = supervised(2);
    // Of what is sent only three are stored, and nothing is heard of the others.
    let broker = FakeBroker::new([Fault::Send { after: usize::MAX, stored: 3 }]);
    let mut window = supervised.window();
    let end = own(&supervised, &broker, &mut window, async |_, lease| {
        sleep(Duration::from_secs(3)).await;
        lease.cancel();
    });
    assert_eq!(end.await, End::Lost);
    assert_eq!(broker.ids(), ids(3));
    let again = own(&supervised, &broker, &mut window, async |_, _| {});
    let end = tokio::time::timeout(Duration::from_secs(60), again).await;
    assert_eq!(end, Ok(End::Finished));
    assert_eq!(broker.ids(), ids(20));
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

#[tokio::test(start_paused = true)]
async fn slices_are_given_back_only_when_what_was_fetched_is_published() {
    let (supervised, source) = supervised(usize::MAX);
    let broker = FakeBroker::new(std::iter::repeat_n(Fault::Open, 5));
    let (shutdown, moved, lost) = Default::default();
    let drain_within = Duration::from_secs(5);
    let stop = Stop { shutdown: &shutdown, drain_within, moved: &moved, lost: &lost };
    let (shared, mut window, followed) = (broker.shared(), supervised.window(), none());
    let moving = async {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(broker.ids().len(), 0, "the broker is still away");
        moved.cancel();
    };
    let owning = supervised.own(&shared, &followed, &mut window, stop);
    assert_eq!(tokio::join!(owning, moving).0, End::Moved);
    assert!(window.is_empty());
    assert_eq!(broker.ids(), ids(10 * source.resumed.lock().unwrap().len()));
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_of_a_divided_source_is_published_whoever_owns_it_now() {
    let (supervised, source) = supervised_as(2, true);
    let broker = FakeBroker::new(std::iter::repeat_n(Fault::Open, 1_000));
    let mut window = supervised.window();
    let end = own(&supervised, &broker, &mut window, async |_, lease| {
        sleep(Duration::from_secs(3)).await;
        lease.cancel();
    });
    assert_eq!(end.await, End::Lost);
    assert_eq!((broker.ids().len(), window.is_empty()), (0, false));
    broker.recover();
    let shared = broker.shared();
    let draining = supervised.drain(&shared, &mut window);
    assert!(timeout(Duration::from_secs(10), draining).await.is_err(), "it has no end");
    assert!(window.is_empty());
    assert_eq!(broker.ids(), ids(10));
    assert_eq!(*source.resumed.lock().unwrap(), [None], "nothing more is fetched");
}

#[tokio::test(start_paused = true)]
async fn what_a_source_that_is_played_again_has_fetched_waits_for_its_lease() {
    let (supervised, _) = supervised(2);
    let broker = FakeBroker::new([]);
    let (shared, mut window) = (broker.shared(), supervised.window());
    window.push(tick(0));
    let draining = supervised.drain(&shared, &mut window);
    assert!(timeout(Duration::from_secs(10), draining).await.is_err());
    assert_eq!((broker.ids().len(), window.is_empty()), (0, false));
}
