//! Payloads that end whatever process decodes them, and a crash at every call beside: each of them is
//! rejected once, after a bounded number of deaths, and nothing else is changed.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt, future::try_join_all};
use schemas::Reason;

use super::{
    takeover::{self, by_partition, owner},
    *,
};

/// What ends a process that decodes it.
const DEADLY: &[u8] = br#"{"symbol":"AAPL","price":"deadly"}"#;
/// The same as a page of many symbols.
const DEADLY_PAGE: &[u8] = b"<p id=A>deadly</p><p id=C>4</p>";
/// What somebody ends with who has no luck.
const RISKY: &[u8] = br#"{"symbol":"AAPL","price":"1","ts":"2024-01-01T00:00:00Z","risky":true}"#;

/// Deaths of processes that begin unsuspecting, and those of the tries.
const DEATHS: usize = 2 + TRIES as usize;

/// How many times what is risky ends well.
static LUCK: AtomicUsize = AtomicUsize::new(0);

/// The death of a process, which no decoder's guard can catch.
struct Death;

/// What a payload does to a process.
pub(super) fn of(raw: &RawTick) {
    let holds = |what: &[u8]| raw.body.windows(what.len()).any(|part| part == what);
    if holds(b"deadly") || (holds(b"risky") && LUCK.fetch_add(1, Ordering::Relaxed) < 3) {
        // Nobody is told of this panic.
        resume_unwind(Box::new(Death));
    }
}

/// Whether a session ended with the process, and otherwise how.
async fn survived<T>(session: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(session).catch_unwind().await.ok()
}

/// What the payloads would be if those that are deadly were only wrong.
fn harmless(payloads: &[Raw]) -> Vec<Raw> {
    let mut harmless = payloads.to_vec();
    for (_, _, body) in &mut harmless {
        if is_deadly(body) {
            *body = b"?";
        }
    }
    harmless
}

fn is_deadly(body: &[u8]) -> bool {
    [DEADLY, DEADLY_PAGE].contains(&body)
}

/// The sequences of those that are deadly.
fn deadly(payloads: &[Raw]) -> Vec<u64> {
    let sequences = (1..).zip(payloads);
    sequences.filter(|(_, (_, _, body))| is_deadly(body)).map(|(sequence, _)| sequence).collect()
}

/// The sequences of the payloads that were rejected as poison, and the rejections of the others.
fn split(rejected: &[Message]) -> (Vec<u64>, Vec<Message>) {
    let is_poison = |message: &&Message| message.header(headers::REASON) == Some("poison");
    let (poison, others): (Vec<_>, Vec<_>) = rejected.iter().partition(is_poison);
    let mut poison: Vec<_> = poison.into_iter().map(|message| event(message).0).collect();
    poison.sort_unstable();
    (poison, others.into_iter().cloned().collect())
}

fn without(rejected: &[Message], sequences: &[u64]) -> Vec<Message> {
    let others = rejected.iter().filter(|message| !sequences.contains(&event(message).0));
    others.cloned().collect()
}

/// Processes, each the next after a death, until every payload is acknowledged. How many have died.
async fn die(broker: &Fake, reborn: bool) -> usize {
    let mut deaths = 0;
    let mut engine = engine(broker, 100, Action::Flag);
    for _ in 0..200 {
        let stop = broker.until_exhausted(1);
        let ended = survived(engine.session(&stop)).await;
        if broker.state().is_done() {
            return deaths;
        }
        deaths += usize::from(ended.is_none());
        if ended.is_none_or(|ended| ended.is_err() && reborn) {
            engine = self::engine(broker, 100, Action::Flag);
        }
    }
    panic!("no end after 200 sessions");
}

/// Innocent payloads, and among them two that are not.
fn payloads() -> Vec<Raw> {
    vec![
        raw("a", Format::Sim, GOOD),
        raw("x1", Format::Sim, DEADLY),
        raw("p", Format::Html, PAGE),
        raw("b", Format::Sim, b"not JSON"),
        raw("x2", Format::Sim, DEADLY),
        raw("a", Format::Sim, GOOD),
        raw("c", Format::Sim, OTHER),
    ]
}

/// All of the streams but what is rejected as poison is as if those payloads were only wrong.
fn check(broker: &Fake, payloads: &[Raw], calm: &Fake, case: &impl std::fmt::Debug) {
    let (state, calm, deadly) = (broker.state(), calm.state(), deadly(payloads));
    let (poison, others) = split(&state.rejected);
    assert_eq!(poison, deadly, "{case:?}");
    assert_eq!(events(&state.rejected), events(&calm.rejected), "in their places: {case:?}");
    assert_eq!(others, without(&calm.rejected, &deadly), "{case:?}");
    assert_eq!(state.ticks, calm.ticks, "{case:?}");
}

#[test]
fn a_payload_that_ends_its_process_is_rejected_after_a_few_deaths() {
    let payloads = payloads();
    let calm = Fake::new(&harmless(&payloads), [Stores::AtOnce; 2], None);
    block_on(process(&calm, 100, Action::Flag, false));
    let broker = Fake::new(&payloads, [Stores::WithReceipt; 2], None);
    let deaths = block_on(die(&broker, true));
    check(&broker, &payloads, &calm, &"without a crash");
    // A process that is careful is so with all that was there.
    assert_eq!(deaths, DEATHS + TRIES as usize);
    let state = broker.state();
    let reason = Some(Reason::Poison.as_str());
    let poison = state.rejected.iter().find(|it| it.header(headers::REASON) == reason).unwrap();
    assert_eq!(poison.body, DEADLY);
    let error = poison.header(headers::ERROR).unwrap();
    assert!(error.starts_with("each of the 3 processes that decoded it"), "{error}");
}

#[test]
fn a_crash_at_any_call_changes_no_verdict() {
    let payloads = payloads();
    let calm = Fake::new(&harmless(&payloads), [Stores::AtOnce; 2], None);
    block_on(process(&calm, 100, Action::Flag, false));
    for stores in [[Stores::WithReceipt; 2], [Stores::Late; 2]] {
        for failure in [Failure::BeforeEffect, Failure::AfterEffect] {
            for reborn in [false, true] {
                let mut call = 0;
                loop {
                    let broker = Fake::new(&payloads, stores, Some((call, failure)));
                    let deaths = block_on(die(&broker, reborn));
                    let case = (stores, failure, reborn, call);
                    check(&broker, &payloads, &calm, &case);
                    // A crash may count as a death, or come when the first is behind the position.
                    let bound = DEATHS + TRIES as usize;
                    assert!((bound - 2..=bound + 2).contains(&deaths), "{deaths}: {case:?}");
                    if broker.state().calls() <= call {
                        break;
                    }
                    call += 1;
                }
                assert!(call > 150, "only {call} calls were tried");
            }
        }
    }
}

#[test]
fn what_does_not_end_its_process_each_time_is_not_rejected() {
    let mut payloads = super::payloads();
    payloads.insert(3, raw("r", Format::Sim, RISKY));
    let broker = Fake::new(&payloads, [Stores::AtOnce; 2], None);
    assert_eq!(block_on(die(&broker, true)), 3);
    let state = broker.state();
    assert_eq!(split(&state.rejected).0, [0; 0]);
    check_exactness(&state.ticks, &state.rejected, EVENTS + 1);
}

/// Owners of partitions, one age after the other until all is done; an age ends with the death or the
/// failure of one of its owners. How many ages have ended with a death.
async fn die_in_turn(broker: &Fake, ages: &takeover::Ages) -> usize {
    let mut deaths = 0;
    for (number, age) in ages.iter().cycle().enumerate() {
        assert!(number < 200, "no end after 200 ages");
        let mut owners: Vec<_> =
            age.iter().map(|own| owner(broker, own, 100, Action::Flag)).collect();
        for session in 0.. {
            assert!(session < 100, "no end after 100 sessions: {age:?}");
            let stop = broker.until_exhausted(age.len());
            let sessions = owners.iter_mut().map(|owner| Box::pin(owner.session(&stop)));
            let ended = survived(try_join_all(sessions)).await;
            if broker.state().are_done(takeover::COUNT) {
                return deaths;
            }
            deaths += usize::from(ended.is_none());
            if ended.is_none_or(|ended| ended.is_err()) {
                break;
            }
        }
    }
    unreachable!("ages have no end");
}

/// Payloads of several partitions and of many symbols, and two that are deadly: one of one symbol, one
/// for every owner.
fn shared() -> Vec<Raw> {
    vec![
        raw_of("m", Format::Sim, OTHER, Symbol::new("MSFT").ok()),
        raw("x", Format::Sim, DEADLY),
        raw("p", Format::Html, PAGE),
        raw("xp", Format::Html, DEADLY_PAGE),
        raw("a", Format::Sim, GOOD),
    ]
}

#[test]
fn owners_come_to_the_same_verdict_whoever_dies() {
    use takeover::{JOIN, SWAP};
    let payloads = shared();
    let calm = Fake::new(&harmless(&payloads), [Stores::AtOnce; 2], None);
    block_on(takeover::process(&calm, &[&[&[0, 1, 2, 3, 4]]], 100, Action::Flag));
    let calm = calm.state();
    let deadly = deadly(&payloads);
    let rejected = by_partition(&without(&calm.rejected, &deadly));
    for ages in [JOIN, SWAP] {
        for stores in [[Stores::WithReceipt; 2], [Stores::Late; 2]] {
            for failure in [Failure::BeforeEffect, Failure::AfterEffect] {
                let mut call = 0;
                loop {
                    let broker = Fake::new(&payloads, stores, Some((call, failure)));
                    let deaths = block_on(die_in_turn(&broker, ages));
                    let state = broker.state();
                    let case = (ages, stores, failure, call);
                    let (poison, others) = split(&state.rejected);
                    assert_eq!(poison, deadly, "{case:?}");
                    assert_eq!(by_partition(&others), rejected, "{case:?}");
                    assert_eq!(by_partition(&state.ticks), by_partition(&calm.ticks), "{case:?}");
                    // Each owner may have its own tries.
                    assert!(deaths <= 2 * 2 * DEATHS, "{deaths}: {case:?}");
                    if state.calls() <= call {
                        break;
                    }
                    call += 1;
                }
                assert!(call > 300, "only {call} calls were tried");
            }
        }
    }
}
