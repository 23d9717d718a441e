//! A store in memory, and a stream that is emptied, or is another.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::{
    publish::{Window, publish},
    testing::{FakeBroker, status, tick},
};

/// A store; its clones are one.
#[derive(Clone, Default)]
struct Memory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    kept: Mutex<Option<(Place, u64)>>,
    saves: Mutex<usize>,
    hangs: AtomicBool,
}

impl Memory {
    fn keeper(&self) -> Keeper {
        Keeper::new(&Source::new("sim").unwrap(), Box::new(self.clone()))
    }

    fn kept(&self) -> Option<Place> {
        self.0.kept.lock().unwrap().clone().map(|(place, _)| place)
    }

    fn saves(&self) -> usize {
        *self.0.saves.lock().unwrap()
    }

    fn hang(&self, hangs: bool) {
        self.0.hangs.store(hangs, Ordering::SeqCst);
    }
}

#[async_trait]
impl PlaceStore for Memory {
    async fn load(&self) -> Result<Saved, BrokerError> {
        let kept = self.0.kept.lock().unwrap().clone();
        let revision = kept.as_ref().map(|(_, revision)| *revision);
        Ok(Saved { place: kept.map(|(place, _)| place), revision })
    }

    async fn save(&self, place: &Place, saved: &mut Saved) -> Result<bool, BrokerError> {
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        *self.0.saves.lock().unwrap() += 1;
        let mut kept = self.0.kept.lock().unwrap();
        let now = kept.as_ref().map(|(_, revision)| *revision);
        let was_so = now == saved.revision;
        if was_so {
            let revision = now.unwrap_or_default() + 1;
            *kept = Some((place.clone(), revision));
            *saved = Saved { place: Some(place.clone()), revision: Some(revision) };
        }
        Ok(was_so)
    }
}

fn place(n: usize) -> Place {
    Place { id: tick(n).id, sequence: n as u64 + 1 }
}

/// Publishes ticks as fast as they are taken, and then waits so long before it ends as a source does.
async fn play(
    broker: &FakeBroker,
    keeper: &Arc<Keeper>,
    ticks: std::ops::Range<usize>,
    then: Duration,
) {
    let (sender, mut intake) = tokio::sync::mpsc::channel(8);
    let (shared, mut window) =
        (broker.shared(), Window::new(&keeper.source, false, Arc::new(status())));
    window.keep_place_in(Arc::clone(keeper));
    let feeding = async {
        for n in ticks {
            sender.send(tick(n)).await.unwrap();
        }
        sleep(then).await;
        drop(sender);
    };
    let publishing = async { tokio::join!(publish(&shared, &mut window, &mut intake), feeding) };
    tokio::select! {
        _ = publishing => {}
        never = keeper.keep() => match never {},
    }
}

#[tokio::test(start_paused = true)]
async fn the_place_outlives_what_the_stream_has_dropped_and_not_the_stream() {
    let (broker, memory) = (FakeBroker::new([]), Memory::default());
    let shared = broker.shared();
    let keeper = Arc::new(memory.keeper());
    assert_eq!(keeper.begin(&shared, None).await.unwrap(), None);
    play(&broker, &keeper, 0..100, Duration::ZERO).await;
    keeper.finish().await;
    assert_eq!(memory.kept(), Some(place(99)));

    broker.forget_messages();
    let next = memory.keeper();
    assert_eq!(next.begin(&shared, None).await.unwrap(), Some(tick(99).id));
    let another = FakeBroker::new([]);
    assert_eq!(memory.keeper().begin(&another.shared(), None).await.unwrap(), None);
    // A new stream is played into, and its place takes the place of the old one.
    let keeper = Arc::new(memory.keeper());
    keeper.begin(&another.shared(), None).await.unwrap();
    play(&another, &keeper, 0..3, Duration::ZERO).await;
    keeper.finish().await;
    assert_eq!(memory.kept(), Some(place(2)));
}

#[tokio::test(start_paused = true)]
async fn what_the_stream_has_comes_before_what_was_saved_and_is_saved() {
    let (broker, memory) = (FakeBroker::new([]), Memory::default());
    play(&broker, &Arc::new(memory.keeper()), 0..50, Duration::ZERO).await;
    let keeper = memory.keeper();
    let stored = keeper.begin(&broker.shared(), Some(tick(49).id)).await.unwrap();
    assert_eq!(stored, Some(tick(49).id));
    keeper.finish().await;
    assert_eq!(memory.kept(), Some(place(49)));
}

#[tokio::test(start_paused = true)]
async fn it_is_saved_while_it_moves_and_at_most_each_second() {
    let (broker, memory) = (FakeBroker::new([]), Memory::default());
    let keeper = Arc::new(memory.keeper());
    let minute = Duration::from_secs(60);
    let watching = async {
        sleep(minute / 2).await;
        assert_eq!(memory.kept(), Some(place(4_999)), "not only at the end");
    };
    tokio::join!(play(&broker, &keeper, 0..5_000, minute), watching);
    // Receipts come for some five seconds.
    assert!((4..10).contains(&memory.saves()), "{}", memory.saves());
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_does_not_answer_holds_nothing_up() {
    let (broker, memory) = (FakeBroker::new([]), Memory::default());
    let keeper = Arc::new(memory.keeper());
    let begun = Instant::now();
    play(&broker, &keeper, 0..2_000, Duration::ZERO).await;
    let takes = begun.elapsed();
    memory.hang(true);
    let begun = Instant::now();
    play(&broker, &keeper, 2_000..4_000, Duration::ZERO).await;
    assert_eq!((broker.ids().len(), begun.elapsed()), (4_000, takes));
    let begun = Instant::now();
    keeper.finish().await;
    assert_eq!(begun.elapsed(), SAVE_WITHIN);
    memory.hang(false);
    keeper.finish().await;
    assert_eq!(memory.kept(), Some(place(3_999)));
}

#[tokio::test(start_paused = true)]
async fn whoever_stalled_does_not_take_the_place_back() {
    let (broker, memory) = (FakeBroker::new([]), Memory::default());
    let stalled = memory.keeper();
    stalled.begin(&broker.shared(), None).await.unwrap();
    stalled.stored(&tick(4).id, 5);
    let other = memory.keeper();
    other.begin(&broker.shared(), None).await.unwrap();
    other.stored(&tick(9).id, 10);
    other.finish().await;
    stalled.finish().await;
    assert_eq!(memory.kept(), Some(place(9)));
    // Its own save whose answer was lost is another matter.
    stalled.stored(&tick(12).id, 13);
    stalled.finish().await;
    assert_eq!(memory.kept(), Some(place(12)));
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_since_the_last_save_counts_for_who_knows_it() {
    let (broker, memory) = (FakeBroker::new([]), Memory::default());
    let keeper = Arc::new(memory.keeper());
    play(&broker, &keeper, 0..10, Duration::from_secs(2)).await;
    play(&broker, &keeper, 10..20, Duration::ZERO).await;
    broker.forget_messages();
    memory.0.kept.lock().unwrap().as_mut().unwrap().0 = place(9);
    assert_eq!(keeper.begin(&broker.shared(), None).await.unwrap(), Some(tick(19).id));
    assert_eq!(memory.keeper().begin(&broker.shared(), None).await.unwrap(), Some(tick(9).id));
}
