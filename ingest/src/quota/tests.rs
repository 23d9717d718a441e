//! Instances that come, go, stall and are killed, over a store in memory and in virtual time.

use std::{
    iter::repeat_n,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle, time::sleep_until};

use super::{record::Record, *};

/// Some day, five minutes before it begins.
const START_MS: i64 = 1_764_460_500_000;

/// The store of all instances.
#[derive(Clone)]
struct Shelf(Arc<Mutex<Inner>>);

struct Inner {
    since: Instant,
    record: Record,
    revision: u64,
    /// When it was written.
    written: Vec<Instant>,
    is_away: bool,
    /// So many of the next writes are done, and nobody is told.
    silent: usize,
}

impl Shelf {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            since: Instant::now(),
            record: Record::default(),
            revision: 0,
            written: Vec::new(),
            is_away: false,
            silent: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn go_away(&self, is_away: bool) {
        self.inner().is_away = is_away;
    }
}

fn away<T>() -> Result<T, BrokerError> {
    Err(BrokerError::Unreachable("told to fail".into()))
}

#[async_trait]
impl QuotaStore for Shelf {
    fn now_ms(&self) -> i64 {
        START_MS + i64::try_from(self.inner().since.elapsed().as_millis()).unwrap()
    }

    async fn load(&self) -> Result<(Record, Option<u64>), BrokerError> {
        sleep(Duration::from_millis(5)).await;
        let inner = self.inner();
        if inner.is_away {
            return away();
        }
        Ok((inner.record.clone(), Some(inner.revision).filter(|revision| *revision > 0)))
    }

    async fn save(
        &self,
        record: &Record,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        sleep(Duration::from_millis(5)).await;
        let inner = &mut *self.inner();
        if inner.is_away {
            return away();
        }
        if inner.revision != revision.unwrap_or(0) {
            return Ok(None);
        }
        inner.record = record.clone();
        inner.revision += 1;
        inner.written.push(Instant::now());
        if inner.silent > 0 {
            inner.silent -= 1;
            return away();
        }
        Ok(Some(inner.revision))
    }
}

/// All that was ever taken.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<Instant>>>);

impl Taken {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// How much was taken within this time of its start, whenever that was, at most.
    fn most_within(&self, length: Duration) -> usize {
        let taken = self.0.lock().unwrap();
        let within = |from: &Instant| {
            taken.iter().filter(|at| **at >= *from && **at < *from + length).count()
        };
        taken.iter().map(within).max().unwrap_or(0)
    }
}

/// An instance that takes whatever it may as soon as it may.
struct Instance {
    account: Arc<Account>,
    part: watch::Sender<(usize, usize)>,
    tasks: [JoinHandle<()>; 2],
}

impl Instance {
    fn start(shelf: &Shelf, taken: &Taken, limits: (u32, u32), part: (usize, usize)) -> Self {
        let account = Arc::new(Account::new(limits.0, limits.1, "k3y"));
        account.keep_in(Box::new(shelf.clone()));
        account.begin();
        let (part, parts) = watch::channel(part);
        let (keeping, taking) = (Arc::clone(&account), Arc::clone(&account));
        let taken = taken.clone();
        let keep = tokio::spawn(async move {
            keeping.keep(&Source::new("yahoo").unwrap()).await;
        });
        let take = tokio::spawn(async move {
            loop {
                let now = Instant::now();
                let part = *parts.borrow();
                taking.share(part, 1);
                taking.want(repeat_n(1, part.0.min(4)), now);
                if part.0 > 0 && taking.take(1, now) {
                    taken.0.lock().unwrap().push(now);
                    continue;
                }
                let free = taking.free_at(1, now).filter(|_| part.0 > 0);
                let free = free.unwrap_or(now + Duration::from_secs(1));
                tokio::select! {
                    () = sleep_until(free) => {}
                    () = taking.changed() => {}
                }
            }
        });
        Self { account, part, tasks: [keep, take] }
    }

    fn kill(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    async fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.account.finish(&Source::new("yahoo").unwrap()).await;
    }
}

async fn pass(secs: u64) {
    sleep(Duration::from_secs(secs)).await;
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ALL: (usize, usize) = (8, 8);

#[tokio::test(start_paused = true)]
async fn who_is_killed_and_comes_back_takes_no_more_than_the_account_has() {
    let (shelf, taken) = (Shelf::new(), Taken::default());
    for _ in 0..6 {
        let instance = Instance::start(&shelf, &taken, (5, 25), ALL);
        pass(10).await;
        instance.kill();
        pass(1).await;
    }
    assert!(taken.count() >= 3, "{}", taken.count());
    // A day that begins with that, and the beginning of another.
    let instance = Instance::start(&shelf, &taken, (5, 25), ALL);
    pass(25 * 60 * 60).await;
    assert!(taken.most_within(MINUTE) <= 5, "{}", taken.most_within(MINUTE));
    assert!(taken.most_within(DAY) <= 25, "{}", taken.most_within(DAY));
    assert!(taken.count() >= 40, "{}", taken.count());
    instance.kill();
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_and_comes_back_has_lost_nothing_of_it() {
    let (shelf, taken) = (Shelf::new(), Taken::default());
    for _ in 0..5 {
        let instance = Instance::start(&shelf, &taken, (0, 25), ALL);
        while taken.count() % 5 < 4 {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(1)).await;
        instance.stop().await;
    }
    let instance = Instance::start(&shelf, &taken, (0, 25), ALL);
    pass(60).await;
    assert_eq!(taken.count(), 25);
    instance.kill();
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_and_goes_no_minute_has_more_than_the_account_and_little_less() {
    const LIMIT: u32 = 16;
    let (shelf, taken) = (Shelf::new(), Taken::default());
    let start = |part| Instance::start(&shelf, &taken, (LIMIT, 0), part);
    let a = start(ALL);
    pass(100).await;
    a.part.send_replace((4, 8));
    let b = start((4, 8));
    pass(60).await;
    a.part.send_replace((3, 8));
    b.part.send_replace((3, 8));
    let c = start((2, 8));
    pass(20).await;
    a.kill();
    b.part.send_replace((5, 8));
    c.part.send_replace((3, 8));
    pass(5).await;
    b.part.send_replace((0, 8));
    c.part.send_replace(ALL);
    pass(115).await;
    b.stop().await;
    pass(300).await;
    assert!(taken.most_within(MINUTE) <= LIMIT as usize, "{}", taken.most_within(MINUTE));
    // In ten minutes, of which each may be a second longer.
    assert!(taken.count() >= 9 * LIMIT as usize, "{}", taken.count());
    c.kill();
}

#[tokio::test(start_paused = true)]
async fn while_nats_is_away_all_together_take_what_was_left() {
    let (shelf, taken) = (Shelf::new(), Taken::default());
    let start = |part| Instance::start(&shelf, &taken, (8, 40), part);
    let first = start(ALL);
    pass(130).await;
    first.kill();
    // These have taken nothing themselves, and know from the record what is left.
    let (a, b) = (start((5, 8)), start((3, 8)));
    pass(5).await;
    shelf.go_away(true);
    let before = taken.count();
    assert!((16..=30).contains(&before), "{before}");
    pass(60 * 60).await;
    let meanwhile = taken.count() - before;
    assert!(meanwhile >= 8, "they go on: {meanwhile} after {before}");
    shelf.go_away(false);
    pass(10 * 60).await;
    assert!(taken.most_within(MINUTE) <= 8, "{}", taken.most_within(MINUTE));
    assert!(taken.most_within(DAY) <= 40, "{}", taken.most_within(DAY));
    assert!(taken.count() >= 36, "{}", taken.count());
    // What the killed one had reserved counts, too.
    let known = shelf.inner().record.clone();
    let known = known.taken.counted(Span::Day, shelf.now_ms()) as usize;
    assert!((taken.count()..=40).contains(&known), "{known} of {}", taken.count());
    a.kill();
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_record_cannot_be_read_is_not_asked_before_it_can() {
    let (shelf, taken) = (Shelf::new(), Taken::default());
    shelf.go_away(true);
    let instance = Instance::start(&shelf, &taken, (5, 0), ALL);
    pass(600).await;
    assert_eq!(taken.count(), 0);
    shelf.go_away(false);
    pass(10).await;
    assert_eq!(taken.count(), 5);
    instance.kill();
}

#[tokio::test(start_paused = true)]
async fn what_was_saved_without_an_answer_counts_once() {
    let (shelf, taken) = (Shelf::new(), Taken::default());
    shelf.inner().silent = 3;
    let instance = Instance::start(&shelf, &taken, (0, 25), ALL);
    pass(60).await;
    assert_eq!(taken.count(), 25);
    let left = instance.account.left(Instant::now());
    assert_eq!(left, QuotaLeft { minute: None, day: Some(0) });
    assert_eq!(shelf.inner().record.taken.total(), 25);
    instance.kill();
}

#[tokio::test(start_paused = true)]
async fn the_record_is_written_once_a_second_at_most_and_not_at_all_while_nothing_is_taken() {
    let (shelf, taken) = (Shelf::new(), Taken::default());
    let instance = Instance::start(&shelf, &taken, (60, 0), ALL);
    pass(40).await;
    let written = shelf.inner().written.clone();
    assert!(written.windows(2).all(|pair| pair[1] - pair[0] >= PACE), "{written:?}");
    instance.part.send_replace((0, 8));
    pass(60).await;
    let before = shelf.inner().written.len();
    pass(600).await;
    assert_eq!(shelf.inner().written.len(), before);
    instance.kill();
}

#[tokio::test(start_paused = true)]
async fn what_is_foreseen_waits_for_no_answer() {
    let shelf = Shelf::new();
    let account = Arc::new(Account::new(60, 0, ""));
    account.keep_in(Box::new(shelf.clone()));
    let keeping = Arc::clone(&account);
    let keep = tokio::spawn(async move {
        keeping.keep(&Source::new("yahoo").unwrap()).await;
    });
    let refused = AtomicUsize::new(0);
    for _ in 0..30 {
        account.want(repeat_n(1, 2), Instant::now());
        sleep(AHEAD).await;
        if !account.take(1, Instant::now()) {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert_eq!(refused.into_inner(), 0);
    keep.abort();
}

#[test]
fn a_record_is_small_and_a_wrong_clock_does_not_last() {
    let limits = Limits { minute: 0, day: 1_000_000 };
    let mut record = Record::default();
    for second in 0..200_000 {
        record.taken.add(START_MS + second * 1_000, 1);
        record.forget(START_MS + second * 1_000);
    }
    let now = START_MS + 200_000_000;
    assert!(serde_json::to_vec(&record).unwrap().len() < 8 * 1024);
    let counted = record.taken.counted(Span::Day, now);
    assert!((86_400..=86_700).contains(&counted), "{counted}");
    record.taken.add(now + 30 * 24 * 60 * 60 * 1_000, 7);
    record.forget(now);
    let later = now + 25 * 60 * 60 * 1_000;
    record.forget(later);
    assert_eq!((record.taken.total(), record.room(limits, later)), (0, 1_000_000));
}
