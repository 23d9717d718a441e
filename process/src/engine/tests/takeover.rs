//! A crash at every call of the broker, after which others own what the dead one owned, and some of
//! what a living one did: whatever was in flight, nothing is lost, doubled or swapped.

use std::collections::BTreeMap;

use nats::{Message, Partitions};
use schemas::{Format, Symbol};

use super::{
    super::{output::Stored, ownership::Owned, partition},
    *,
};

pub(super) const COUNT: u16 = 5;
const NVDA: &[u8] = br#"{"symbol":"NVDA","price":"7","ts":"2024-01-01T00:00:00Z"}"#;

/// Payloads of three partitions and of many symbols, each kind again, with events that come twice.
pub(super) fn payloads() -> Vec<Raw> {
    let of = |symbol: &str, id: &str, body| raw_of(id, Format::Sim, body, Symbol::new(symbol).ok());
    let page = |id| raw_of(id, Format::Html, PAGE, None);
    vec![
        of("AAPL", "a1", GOOD),
        of("NVDA", "n1", NVDA),
        of("MSFT", "m1", b"not JSON"),
        page("p1"),
        of("AAPL", "a2", FUTURE),
        of("MSFT", "m2", OTHER),
        of("AAPL", "a1", GOOD),
        page("p2"),
        of("NVDA", "n2", NVDA),
        page("p1"),
        of("MSFT", "m3", OTHER),
        of("AAPL", "a3", GOOD),
        of("NVDA", "n1", NVDA),
    ]
}

/// Who owns what, one after the other.
pub(super) type Ages = [&'static [&'static [u16]]];

/// All are one's; it dies, and two share them.
pub(super) const JOIN: &Ages = &[&[&[0, 1, 2, 3, 4]], &[&[0, 1], &[2, 3, 4]]];
/// Two share them; when one dies, the other has all.
pub(super) const LEAVE: &Ages = &[&[&[0, 2], &[1, 3, 4]], &[&[0, 1, 2, 3, 4]]];
/// Two share them, and everything changes hands.
pub(super) const SWAP: &Ages = &[&[&[0, 1], &[2, 3, 4]], &[&[2, 3, 4], &[0, 1]]];

/// An engine that owns some partitions, which saves its positions whenever it can.
pub(super) fn owner(broker: &Fake, own: &[u16], remembered_ids: usize, outlier: Action) -> Engine {
    let mut engine = engine(broker, remembered_ids, outlier);
    engine.owned = Some(Owned {
        partitions: Partitions { own: own.iter().copied().collect(), count: COUNT },
        positions: Arc::new(broker.clone()),
    });
    engine.save_every = Duration::ZERO;
    engine
}

/// Runs the owners of one age after the other until every partition is done; an age ends when one of
/// its owners fails. How many sessions failed.
pub(super) async fn process(
    broker: &Fake,
    ages: &Ages,
    remembered_ids: usize,
    outlier: Action,
) -> usize {
    let mut failed = 0;
    for age in ages.iter().chain(std::iter::repeat(&ages[ages.len() - 1])) {
        let mut owners: Vec<_> =
            age.iter().map(|own| owner(broker, own, remembered_ids, outlier)).collect();
        for session in 0.. {
            assert!(session < 100, "no end after 100 sessions: {age:?}");
            let stop = broker.until_exhausted(age.len());
            let sessions = owners.iter_mut().map(|owner| Box::pin(owner.session(&stop)));
            // The others end in the middle of what they do, as those do who lose a lease.
            let ended = futures_util::future::try_join_all(sessions).await;
            if broker.state().are_done(COUNT) {
                return failed + usize::from(ended.is_err());
            }
            if ended.is_err() {
                failed += 1;
                break;
            }
        }
    }
    unreachable!("the last age has no end");
}

/// What each partition has in a stream, in order.
pub(super) fn by_partition(stream: &[Message]) -> BTreeMap<u16, Vec<(u64, String)>> {
    let mut partitions = BTreeMap::<_, Vec<_>>::new();
    for message in stream {
        let stored = Stored::read(message).unwrap();
        let partition = match message.header(headers::RAW_SUBJECT) {
            None => partition::of_subject(&message.subject, COUNT),
            Some(raw) if raw.ends_with("._") => match stored.place.1 {
                0 | 2 => partition::of_subject("A", COUNT),
                4 => partition::of_subject("C", COUNT),
                _ => partition::Home::of(raw, COUNT).partition(),
            },
            Some(raw) => partition::Home::of(raw, COUNT).partition(),
        };
        partitions.entry(partition).or_default().push(event(message));
    }
    partitions
}

/// As many times as the events there are: nothing is lost, and nothing doubled.
const STORED: (usize, usize) = (12, 13);

#[test]
fn a_stream_of_payloads_that_is_made_anew_is_processed_from_its_start() {
    let broker = Fake::new(&payloads(), [Stores::AtOnce; 2], None);
    block_on(process(&broker, JOIN, 100, Action::Flag));
    let symbol = Symbol::new("AAPL").ok();
    broker.begin_anew(&[
        raw_of("new", Format::Sim, GOOD, symbol.clone()),
        raw_of("a1", Format::Sim, GOOD, symbol),
    ]);
    block_on(process(&broker, JOIN, 100, Action::Flag));
    let state = broker.state();
    assert_eq!(state.ticks.len(), STORED.0 + 1, "one is new");
    assert_eq!(state.rejected.len(), STORED.1 + 1, "one is a tick already");
}

#[test]
fn the_symbols_of_the_test_are_in_several_partitions() {
    let broker = Fake::new(&payloads(), [Stores::AtOnce; 2], None);
    block_on(process(&broker, JOIN, 100, Action::Flag));
    let state = broker.state();
    assert_eq!((state.ticks.len(), state.rejected.len()), STORED);
    assert!(by_partition(&state.ticks).len() >= 3);
    assert!(by_partition(&state.rejected).len() >= 3);
}

fn crash_at_every_call(payloads: &[Raw], ages: &Ages, remembered_ids: usize, outlier: Action) {
    use Stores::{AtOnce, Late, WithReceipt};
    let calm = Fake::new(payloads, [AtOnce; 2], None);
    block_on(process(&calm, &[&[&[0, 1, 2, 3, 4]]], 100, outlier));
    let (ticks, rejected) = {
        let calm = calm.state();
        (by_partition(&calm.ticks), by_partition(&calm.rejected))
    };
    for stores in [
        [AtOnce, AtOnce],
        [WithReceipt, WithReceipt],
        [AtOnce, WithReceipt],
        [WithReceipt, AtOnce],
        [Late, Late],
        [Late, AtOnce],
        [AtOnce, Late],
    ] {
        for failure in [Failure::BeforeEffect, Failure::AfterEffect] {
            let (mut call, mut crashes) = (0, 0);
            loop {
                let broker = Fake::new(payloads, stores, Some((call, failure)));
                let failed = block_on(process(&broker, ages, remembered_ids, outlier));
                let state = broker.state();
                let case = (ages, stores, failure, call);
                assert_eq!(by_partition(&state.ticks), ticks, "{case:?}");
                assert_eq!(by_partition(&state.rejected), rejected, "{case:?}");
                if state.calls() <= call {
                    break;
                }
                // A position that is not saved while its session ends is nobody's failure.
                crashes += usize::from(failed > 0);
                call += 1;
            }
            assert!(crashes > 80, "only {crashes} of {call} calls were crashes");
        }
    }
}

#[test]
fn a_crash_while_one_joins_changes_nothing() {
    crash_at_every_call(&payloads(), JOIN, 100, Action::Flag);
}

#[test]
fn a_crash_while_one_leaves_changes_nothing() {
    crash_at_every_call(&payloads(), LEAVE, 100, Action::Flag);
}

#[test]
fn a_crash_while_all_changes_hands_changes_nothing() {
    crash_at_every_call(&payloads(), SWAP, 100, Action::Flag);
}

#[test]
fn a_crash_changes_nothing_without_a_memory() {
    crash_at_every_call(&payloads(), SWAP, 0, Action::Flag);
}

#[test]
fn a_crash_while_all_changes_hands_changes_no_judgement() {
    crash_at_every_call(&restless(), SWAP, 100, Action::Reject);
}
