//! What a session says of its memory, and that whoever asks changes nothing.

use schemas::Reason;
use tokio_util::sync::CancellationToken;

use super::{
    super::peek::{Excerpt, Peek, Subject},
    takeover::{COUNT, owner},
    *,
};
use crate::validate::{Context, tick_id};

fn subject_of(symbols: &[&str], ids: &[&str]) -> Subject {
    Subject {
        payload: None,
        symbols: symbols.iter().map(|symbol| Symbol::new(symbol).unwrap()).collect(),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

/// Runs a session, and asks while it runs: how it is once it has seen so many payloads.
async fn while_running<T>(
    broker: &Fake,
    mut engine: Engine,
    seen: u64,
    subject: &Subject,
    look: impl AsyncFnOnce(&Peek, Excerpt) -> T,
) -> T {
    let (peek, questions) = peek::channel(1);
    engine.questions = questions;
    // The broker does not say when to stop: whoever asks does.
    broker.until_exhausted(usize::MAX);
    let stop = CancellationToken::new();
    let looking = async {
        loop {
            let known = peek.ask(subject.clone()).await.expect("a session runs");
            if known.sequence > seen {
                let looked = look(&peek, known).await;
                stop.cancel();
                return looked;
            }
        }
    };
    let (ended, looked) = tokio::join!(engine.session(&stop), looking);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    looked
}

/// What becomes of the payload `a` when it comes once more.
fn once_more(reading: &Reading, known: &mut Excerpt, id: &str) -> Result<Tick, Reason> {
    let (_, headers, body) = raw(id, Format::Sim, GOOD);
    let header = |name: &str| headers.get(name);
    let raw = RawTick::from_message(header, None, body.into()).unwrap();
    let mut events = Vec::new();
    reading.decoder.decode(&raw, &mut events);
    let event = events.remove(0).unwrap();
    assert_eq!(tick_id(&event, &raw, 0), format!("{id}.0"));
    let context =
        Context { raw: &raw, place: (known.sequence, 0), was_rejected: false, is_repeat: false };
    reading.rules.judge(event, &context, &mut known.state).map_err(|why| why.reason)
}

#[test]
fn whoever_asks_gets_a_copy() {
    let broker = Fake::new(&payloads(), [Stores::AtOnce; 2], None);
    let engine = engine(&broker, 100, Action::Flag);
    let reading = Arc::clone(&engine.reading);
    let subject = subject_of(&["AAPL"], &["a.0", "new.0"]);
    let count = payloads().len() as u64;
    block_on(while_running(&broker, engine, count, &subject, async |peek, mut known| {
        assert!(known.elsewhere.is_empty());
        assert_eq!(once_more(&reading, &mut known, "a"), Err(Reason::Duplicate));
        assert!(once_more(&reading, &mut known, "new").is_ok());
        assert_eq!(once_more(&reading, &mut known, "new"), Err(Reason::Duplicate));
        let mut again = peek.ask(subject.clone()).await.unwrap();
        assert_eq!(again.sequence, known.sequence);
        assert!(once_more(&reading, &mut again, "new").is_ok(), "the copy was the memory itself");
    }));
    // Nor does it change what becomes of the payloads that were not done with.
    block_on(process(&broker, 100, Action::Flag, false));
    let state = broker.state();
    check_exactness(&state.ticks, &state.rejected, EVENTS);
}

#[test]
fn of_what_others_own_a_session_says_nothing() {
    let broker = Fake::new(&payloads(), [Stores::AtOnce; 2], None);
    let of = |symbol: &str| partition::of_symbol(&Symbol::new(symbol).unwrap(), COUNT);
    assert_ne!(of("AAPL"), of("MSFT"));
    let engine = owner(&broker, &[of("AAPL")], 100, Action::Flag);
    let subject = subject_of(&["AAPL", "MSFT"], &[]);
    block_on(while_running(&broker, engine, 1, &subject, async |peek, known| {
        assert_eq!(known.elsewhere, subject_of(&["MSFT"], &[]).symbols);
        // A payload of one symbol is judged where that one is, whatever is in it.
        let payload = Symbol::new("AAPL").ok();
        let known = peek.ask(Subject { payload, ..subject.clone() }).await.unwrap();
        assert!(known.elsewhere.is_empty());
    }));
}

#[test]
fn nobody_answers_where_no_session_runs() {
    let (peek, questions) = peek::channel(1);
    drop(questions);
    assert!(block_on(peek.ask(Subject::default())).is_none());
}
