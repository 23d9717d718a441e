//! Publishing to a broker in memory that fails as told.

use nats::Receipt;
use schemas::http::SourceState;
use tempfile::TempDir;

use super::{window::WINDOW, *};
use crate::{
    spool::{Spool, SpoolPlace},
    testing::{FakeBroker, Fault, status, tick},
};

fn window() -> Window {
    Window::new(&schemas::Source::new("sim").unwrap(), false, Arc::new(status()))
}

async fn publish_all(broker: &FakeBroker, count: usize) -> Window {
    let (sender, mut intake) = tokio::sync::mpsc::channel(64);
    let (shared, mut window) = (broker.shared(), window());
    tokio::join!(publish(&shared, &mut window, &mut intake), async move {
        for n in 0..count {
            sender.send(tick(n)).await.unwrap();
        }
    });
    window
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| tick(n).id).collect()
}

#[tokio::test(start_paused = true)]
async fn everything_is_stored_in_order_with_its_envelope() {
    let broker = FakeBroker::new([]);
    let window = publish_all(&broker, 3_000).await;
    assert_eq!(broker.ids(), ids(3_000));
    let first = &broker.stored()[0];
    assert_eq!(first.subject, "ticks.raw.sim.BRK=2EB");
    assert_eq!(first.headers, tick(0).headers());
    assert_eq!(first.body, tick(0).body);
    assert_eq!(window.status.snapshot().published, 3_000);
    assert!(broker.most_in_flight() <= WINDOW);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_session_left_is_sent_again_in_order_and_stored_once() {
    let broker = FakeBroker::new([
        Fault::Open,
        Fault::Send { after: 700, stored: 650 },
        Fault::Send { after: 0, stored: 0 },
        Fault::Confirm { after: 100 },
        Fault::Open,
    ]);
    let window = publish_all(&broker, 2_000).await;
    assert_eq!(broker.ids(), ids(2_000));
    assert_eq!(broker.faults_left(), 0);
    let snapshot = window.status.snapshot();
    assert!(snapshot.last_error.is_some());
    assert!(snapshot.published <= 2_000, "duplicates do not count as published");
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_not_sent_again_even_when_its_ids_are_forgotten() {
    let broker = FakeBroker::forgetful([
        Fault::Send { after: 700, stored: 650 },
        Fault::Confirm { after: 100 },
        Fault::Confirm { after: 0 },
    ]);
    let window = publish_all(&broker, 2_000).await;
    assert_eq!(broker.ids(), ids(2_000));
    assert_eq!(window.status.snapshot().published, 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again_without_haste_until_it_passes() {
    let broker = FakeBroker::new([]);
    broker.refuse(100..usize::MAX);
    let (sender, mut intake) = tokio::sync::mpsc::channel(1_000);
    for n in 0..300 {
        sender.send(tick(n)).await.unwrap();
    }
    drop(sender);
    let (shared, mut window) = (broker.shared(), window());
    let status = Arc::clone(&window.status);
    status.set(SourceState::Running);
    let publishing = publish(&shared, &mut window, &mut intake);
    tokio::pin!(publishing);
    let hour = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, &mut publishing).await.is_err(), "it still waits");
    assert!((500..2_000).contains(&broker.sessions()), "{} in an hour", broker.sessions());
    let told = status.snapshot();
    assert_eq!((told.state, told.published), (SourceState::BackingOff, 100));
    let why = "the broker refused: maximum bytes exceeded";
    assert_eq!(told.last_error.as_deref(), Some(why));
    assert_eq!(status.unpublished(), Some(format!("sim: {why}")));

    broker.refuse(0..0);
    publishing.await;
    assert_eq!(broker.ids(), ids(300));
    assert_eq!((status.snapshot().state, status.unpublished()), (SourceState::Running, None));
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_refused_is_not_lost_when_those_behind_it_are_stored() {
    let broker = FakeBroker::new([]);
    broker.refuse(100..101);
    let room = async {
        sleep(Duration::from_secs(30)).await;
        broker.refuse(0..0);
    };
    tokio::join!(publish_all(&broker, 300), room);
    let mut stored = broker.ids();
    stored.sort_by_key(|id| id.rsplit(':').next().unwrap().parse::<usize>().unwrap());
    assert_eq!(stored, ids(300));
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_away_the_source_is_held_back() {
    let broker = FakeBroker::new(std::iter::repeat_n(Fault::Open, 100_000));
    let (sender, mut intake) = tokio::sync::mpsc::channel(8);
    let (shared, mut window) = (broker.shared(), window());
    let publishing = publish(&shared, &mut window, &mut intake);
    let feeding = async {
        let mut sent = 0;
        while sender.send(tick(sent)).await.is_ok() {
            sent += 1;
            assert!(sent <= 8);
        }
    };
    let hour = Duration::from_secs(3_600);
    let both = async { tokio::join!(publishing, feeding) };
    assert!(tokio::time::timeout(hour, both).await.is_err(), "it still waits after an hour");
    let attempts = 100_000 - broker.faults_left();
    assert!((700..10_000).contains(&attempts), "{attempts} attempts in an hour");
}

/// The oldest that waits is sent and confirmed.
fn confirm_one(window: &mut Window) {
    assert_eq!(window.send(1).unwrap().count(), 1);
    window.confirmed(Receipt { duplicate: false, sequence: 0 });
}

#[test]
fn bytes_in_memory_are_bounded() {
    let mut window = window();
    for n in 0..64 {
        assert!(!window.is_full());
        window.push(RawTick { body: vec![0; 512 * 1024].into(), ..tick(n) });
    }
    assert!(window.is_full());
    confirm_one(&mut window);
    assert!(!window.is_full());
}

#[test]
fn what_was_left_comes_first_unless_another_instance_went_on() {
    let left = || {
        let mut window = window();
        (0..3).for_each(|n| window.push(tick(n)));
        confirm_one(&mut window);
        window
    };
    for ours in [None, Some(tick(0).id), Some(tick(1).id), Some(tick(2).id)] {
        let mut window = left();
        assert_eq!(window.resume(ours), Some(tick(2).id));
        assert_eq!(window.unconfirmed(), 2);
    }
    let mut window = left();
    assert_eq!(window.resume(Some(tick(9).id)), Some(tick(9).id));
    assert!(window.is_empty());
    assert_eq!(window.resume(None), None);
}

/// A payload of one of two symbols.
fn of_two(n: usize) -> RawTick {
    let symbol = schemas::Symbol::new(["IBM", "SPY"][n % 2]).unwrap();
    RawTick { symbol: Some(symbol), ..tick(n) }
}

/// Windows of five payloads, in memory, on disk, and some here and some there.
async fn fives(disks: &[Disk; 2], is_divided: bool) -> [Window; 3] {
    let new = || Window::new(&tick(0).source, is_divided, Arc::new(status()));
    let mut windows = [new(), new(), new()];
    windows[1].spool_into(disks[0].spool());
    windows[2].spool_into(disks[1].spool());
    for (window, spooled) in windows.iter_mut().zip([0, 5, 3]) {
        (0..spooled).for_each(|n| window.push(of_two(n)));
        window.spool_waiting().await.unwrap();
        (spooled..5).for_each(|n| window.push(of_two(n)));
    }
    windows
}

/// What is left when the broker has these as its newest.
fn left(window: &mut Window, newest: impl IntoIterator<Item = RawTick>) -> Vec<String> {
    window.stored(newest.into_iter().map(|tick| (tick.id, tick.received_at)).collect()).unwrap();
    let mut left = Vec::new();
    while window.can_send() {
        left.extend(window.send(9).unwrap().map(|payload| payload.id.clone()));
    }
    left
}

#[tokio::test]
async fn what_is_stored_of_ours_tells_what_is_left_and_what_is_anothers_does_not() {
    for which in 0..3 {
        let window = async || {
            let disks = [Disk::of(u64::MAX), Disk::of(u64::MAX)];
            let [memory, disk, both] = fives(&disks, true).await;
            (
                disks,
                match which {
                    0 => memory,
                    1 => disk,
                    _ => both,
                },
            )
        };
        let subjects = window().await.1.subjects().unwrap();
        let both = ["IBM", "SPY"].map(|symbol| format!("ticks.raw.sim.{symbol}"));
        assert_eq!(subjects, both.into());
        // The same event, fetched by another instance a moment later.
        let others = |n| RawTick { received_at: Timestamp::MAX, ..of_two(n) };
        assert_eq!(left(&mut window().await.1, [others(4), others(3)]).len(), 5);
        assert_eq!(left(&mut window().await.1, []).len(), 5);
        for newest in 0..5_usize {
            // The newest of one symbol is older than that of the other, or another instance's.
            let older = newest.checked_sub(1).map(of_two);
            for beside in [older, Some(others(3 + newest % 2))] {
                let (_disks, mut window) = window().await;
                let left = left(&mut window, [of_two(newest)].into_iter().chain(beside));
                assert_eq!(left, ids(5)[newest + 1..], "{newest} is stored, {which}");
            }
        }
    }
}

/// A folder for a spool, and how large it may become.
struct Disk(TempDir, u64);

impl Disk {
    fn of(bound: u64) -> Self {
        Self(TempDir::new().unwrap(), bound)
    }

    /// The window of a process that begins.
    fn window(&self) -> Window {
        let mut window = window();
        window.spool_into(self.spool());
        window
    }

    fn spool(&self) -> Spool {
        let place = SpoolPlace { folder: self.0.path().to_owned(), bound: self.1 };
        Spool::open(&place, &tick(0).source).unwrap()
    }

    fn segments(&self) -> usize {
        self.0.path().read_dir().unwrap().count() - 1
    }
}

/// A broker that stays away.
fn away() -> impl Iterator<Item = Fault> {
    std::iter::repeat_n(Fault::Open, 1_000_000)
}

/// Publishes ticks until they are all fetched and so much more time is over, and ends as a process
/// that is killed; how many were fetched.
async fn publish_and_die(
    broker: &FakeBroker,
    window: Window,
    ticks: std::ops::Range<usize>,
    then: Duration,
) -> usize {
    let (sender, mut intake) = tokio::sync::mpsc::channel(8);
    let (shared, mut window) = (broker.shared(), window);
    let mut fetched = ticks.start;
    let publishing = publish(&shared, &mut window, &mut intake);
    let feeding = async {
        let all = async {
            for n in ticks {
                sender.send(tick(n)).await.unwrap();
                fetched = n + 1;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(60), all).await;
        sleep(then).await;
    };
    tokio::select! {
        () = publishing => unreachable!("the intake is open"),
        () = feeding => {}
    }
    fetched
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_there_nothing_is_written() {
    let (broker, disk) = (FakeBroker::new([]), Disk::of(u64::MAX));
    publish_and_die(&broker, disk.window(), 0..3_000, Duration::from_secs(1)).await;
    assert_eq!(broker.ids(), ids(3_000));
    assert_eq!(disk.segments(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_while_the_broker_is_away_follows_in_order_whatever_fails_then() {
    let (broker, disk) = (FakeBroker::forgetful([]), Disk::of(u64::MAX));
    broker.fail([Fault::Send { after: 300, stored: 250 }]);
    broker.fail(std::iter::repeat_n(Fault::Open, 9));
    broker.fail([
        Fault::Confirm { after: 70 },
        Fault::Send { after: 200, stored: 130 },
        Fault::Open,
    ]);
    broker.fail([Fault::Confirm { after: 0 }, Fault::Open, Fault::Confirm { after: 1_500 }]);
    let hour = Duration::from_secs(3_600);
    let fetched = publish_and_die(&broker, disk.window(), 0..5_000, hour).await;
    assert_eq!((fetched, broker.faults_left()), (5_000, 0));
    assert_eq!(broker.ids(), ids(5_000));
    assert_eq!(disk.segments(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_leaves_all_it_fetched_to_the_next() {
    let (broker, disk) = (FakeBroker::forgetful(away()), Disk::of(u64::MAX));
    let second = Duration::from_secs(1);
    assert_eq!(publish_and_die(&broker, disk.window(), 0..2_000, second).await, 2_000);
    assert_eq!(publish_and_die(&broker, disk.window(), 2_000..3_000, second).await, 3_000);
    // The broker is back for a moment, and the process dies in the middle of it.
    for confirmed in [1, 64, 1_000] {
        broker.recover();
        broker.fail([Fault::Confirm { after: confirmed }]);
        broker.fail(away());
        publish_and_die(&broker, disk.window(), 3_000..3_000, second).await;
        assert!(broker.ids().len() >= confirmed);
    }
    broker.recover();
    let mut window = disk.window();
    assert_eq!(window.resume(broker.ids().pop()), Some(tick(2_999).id), "what is new is behind it");
    publish_and_die(&broker, window, 3_000..3_500, Duration::from_secs(60)).await;
    assert_eq!(broker.ids(), ids(3_500));
    assert_eq!(disk.segments(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_holds_the_source_back_and_loses_nothing() {
    let (broker, disk) = (FakeBroker::forgetful(away()), Disk::of(64 * 1024));
    let minutes = Duration::from_secs(300);
    let fetched = publish_and_die(&broker, disk.window(), 0..5_000, minutes).await;
    assert!((100..1_000).contains(&fetched), "{fetched} of some 300 bytes each");
    // What the channel held is gone with the process; what was taken from it is not.
    broker.recover();
    publish_and_die(&broker, disk.window(), fetched..fetched, minutes).await;
    let stored = broker.ids();
    assert!(
        stored.len() >= fetched - 8 && stored.len() <= fetched,
        "{} of {fetched}",
        stored.len()
    );
    assert_eq!(stored, ids(stored.len()));
    // In one process all of it follows.
    let broker = FakeBroker::forgetful(std::iter::repeat_n(Fault::Open, 8));
    assert_eq!(publish_and_die(&broker, disk.window(), 0..5_000, minutes).await, 5_000);
    assert_eq!(broker.ids(), ids(5_000));
}

#[tokio::test(start_paused = true)]
async fn when_all_is_spooled_and_no_more_comes_publishing_ends() {
    let (broker, disk) = (FakeBroker::new(away()), Disk::of(u64::MAX));
    let mut window = disk.window();
    let (sender, mut intake) = tokio::sync::mpsc::channel(64);
    (0..10).for_each(|n| sender.try_send(tick(n)).unwrap());
    drop(sender);
    publish(&broker.shared(), &mut window, &mut intake).await;
    assert!(!window.is_empty() && window.is_safe());
    assert_eq!(window.goes_on(), Some(tick(9).id));
    broker.recover();
    publish(&broker.shared(), &mut window, &mut intake).await;
    assert_eq!(broker.ids(), ids(10));
    assert!(window.is_empty());
}
