//! What fires, and a crash at every call of the broker and the bucket.

pub(super) mod broker;
mod judging;

use std::{sync::Arc, time::Duration};

use nats::Message;
use schemas::{
    Symbol,
    alert::{Alert, AlertRule},
    headers, subject,
};
use serde_json::{Value, json};
use tokio::{runtime, sync::watch, time::sleep};

use super::{rules::Rules, *};
use crate::testing::Failure;
use broker::Fake;

fn rule(id: &str, condition: &str) -> Arc<AlertRule> {
    Arc::new(AlertRule {
        id: id.to_owned(),
        condition: condition.parse().unwrap(),
        webhook: None,
        owner: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    })
}

fn rules(rules: &[(&str, &str)]) -> Option<Arc<Rules>> {
    let rules = rules.iter().map(|(id, condition)| ((*id).to_owned(), rule(id, condition)));
    Some(Arc::new(rules.collect()))
}

/// A trade of a symbol at a second, and what is to be different about it.
fn tick(seq: u64, symbol: &str, second: i64, price: &str, size: u32, other: Value) -> Message {
    let ts = jiff::Timestamp::from_second(1_700_000_040 + second).unwrap();
    let mut body = json!({
        "id": format!("t{seq}"), "symbol": symbol, "price": price, "size": size.to_string(),
        "currency": "USD", "exchange": null, "kind": "trade", "ts": ts, "received_at": ts,
        "source": "sim", "raw_seq": seq,
    });
    if let (Some(body), Value::Object(other)) = (body.as_object_mut(), other) {
        body.extend(other);
    }
    Message {
        subject: subject::tick(&Symbol::new(symbol).unwrap()),
        headers: nats::Headers::default(),
        body: body.to_string().into(),
        sequence: seq,
        stored_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn judge(broker: &Fake) -> Judge {
    Judge {
        broker: Arc::new(broker.clone()),
        store: Box::new(broker.clone()),
        drain_deadline: Duration::from_secs(1),
        metrics: Metrics::register(),
    }
}

/// The alerts that are stored, each once.
fn alerts(broker: &Fake) -> Vec<Alert> {
    let state = broker.state();
    let mut ids = std::collections::HashSet::new();
    let read = |message: &Message| {
        let alert: Alert = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(message.subject, subject::alert(&alert.symbol));
        assert_eq!(message.header(headers::MESSAGE_ID), Some(&*alert.id));
        assert!(ids.insert(alert.id.clone()), "{} is there twice", alert.id);
        alert
    };
    state.alerts.iter().map(read).collect()
}

/// The ids of the alerts that are stored.
fn ids(broker: &Fake) -> Vec<String> {
    alerts(broker).into_iter().map(|alert| alert.id).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// Runs sessions, one after the other where they fail, while `story` goes on; then stops them.
async fn run<T>(broker: &Fake, rules: RulesReceiver, story: impl Future<Output = T>) -> T {
    let judge = judge(broker);
    let stop = CancellationToken::new();
    let sessions = async {
        for _ in 0..20 {
            if judge.session(&stop, rules.clone()).await.is_ok() {
                return;
            }
        }
        panic!("no end after 20 sessions");
    };
    let story = async {
        let told = story.await;
        // Until all that is there is read and saved.
        sleep(Duration::from_secs(20)).await;
        stop.cancel();
        told
    };
    tokio::join!(sessions, story).1
}

/// A price that crosses 10 again and again, at each second a tick of A and one of B.
fn crossings(from: u64, count: u64) -> Vec<Message> {
    let at = |seq: u64| {
        let symbol = if seq.is_multiple_of(2) { "A" } else { "B" };
        let price = if seq / 2 % 4 < 2 { "9.99" } else { "10.01" };
        let second = i64::try_from(seq).unwrap();
        tick(seq, symbol, second, price, 10 + u32::try_from(seq % 7).unwrap(), Value::Null)
    };
    (from..from + count).map(at).collect()
}

const RULES: [(&str, &str); 4] = [
    ("above", "A > 10"),
    ("below", "B < 10"),
    ("moved", "change(A, 4s) >= 0.2%"),
    ("busy", "volume(B, 10s) > 60"),
];

/// Rules that are there from the start, ticks that come later, and a rule that comes and goes.
async fn tell(broker: &Fake, send: &watch::Sender<Option<Arc<Rules>>>) {
    for begin in [1, 21, 41] {
        sleep(Duration::from_secs(7)).await;
        broker.state().ticks.extend(crossings(begin, 20));
        if begin == 21 {
            sleep(Duration::from_secs(1)).await;
            send.send_replace(rules(&[&RULES[..], &[("late", "A > 10")]].concat()));
        }
    }
    sleep(Duration::from_secs(7)).await;
    send.send_replace(rules(&RULES));
}

#[test]
fn a_crash_at_any_call_neither_loses_nor_doubles_an_alert() {
    let told = |failure| {
        block_on(async {
            let broker = Fake::new(Vec::new());
            let (send, receive) = watch::channel(rules(&RULES));
            broker.state().calls.failure = failure;
            run(&broker, receive, tell(&broker, &send)).await;
            let fired = ids(&broker);
            let state = broker.state();
            let keys: Vec<_> = state.keys.entries.keys().cloned().collect();
            let kept = ["position", "rule.above", "rule.below", "rule.busy", "rule.moved"];
            assert_eq!(keys, kept, "{failure:?}");
            (fired, state.calls.made)
        })
    };
    let (expected, calls) = told(None);
    for rule in ["above-", "below-", "moved-", "busy-", "late-"] {
        assert!(expected.iter().filter(|id| id.starts_with(rule)).count() > 1, "{expected:?}");
    }
    assert!(calls > 100, "only {calls} calls are tried");
    for failure in [Failure::BeforeEffect, Failure::AfterEffect] {
        for call in 0..calls {
            let (mut fired, _) = told(Some((call, failure)));
            let mut expected = expected.clone();
            fired.sort();
            expected.sort();
            assert_eq!(fired, expected, "{failure:?} {call}");
        }
    }
}

#[test]
fn one_that_was_replaced_stores_and_saves_nothing() {
    block_on(async {
        let broker = Fake::new(Vec::new());
        let (_send, receive) = watch::channel(rules(&RULES[..1]));
        let (one, other) = (judge(&broker), judge(&broker));
        let older = Session::open(&one, receive.clone()).await.unwrap();
        let stop = CancellationToken::new();
        let newer = Session::open(&other, receive).await.unwrap();
        broker.state().ticks.extend(crossings(1, 20));
        let stopping = async {
            sleep(Duration::from_secs(10)).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(newer.run(&stop), stopping);
        ended.unwrap();
        let fired = ids(&broker);
        assert!(!fired.is_empty());
        let ended = older.run(&CancellationToken::new()).await;
        assert!(matches!(ended, Err(Fault::TakenOver)), "{ended:?}");
        assert_eq!(ids(&broker), fired);
    });
}

#[test]
fn only_ticks_of_symbols_with_rules_are_read_and_none_without_rules() {
    block_on(async {
        let broker = Fake::new(crossings(1, 8));
        let (send, receive) = watch::channel(rules(&[]));
        let story = async {
            sleep(Duration::from_secs(1)).await;
            assert!(broker.state().asked.is_empty());
            send.send_replace(rules(&[("above", "A > 10")]));
            sleep(Duration::from_secs(1)).await;
            broker.state().ticks.extend(crossings(9, 20));
        };
        run(&broker, receive, story).await;
        assert_eq!(broker.state().asked, [["ticks.norm.A"]]);
        let fired = alerts(&broker);
        assert!(fired.iter().all(|alert| alert.seq > 8), "what came before is not its concern");
        assert!(!fired.is_empty());
    });
}

#[test]
fn a_stream_made_anew_is_judged_from_its_begin() {
    block_on(async {
        let broker = Fake::new(crossings(1, 20));
        let (_send, receive) = watch::channel(rules(&[("above", "A > 10")]));
        let more = async { broker.state().ticks.extend(crossings(21, 10)) };
        run(&broker, receive.clone(), async {
            sleep(Duration::from_secs(1)).await;
            more.await;
        })
        .await;
        let before = ids(&broker).len();
        broker.state().ticks = crossings(1, 8);
        run(&broker, receive, async {}).await;
        assert_eq!(ids(&broker).len(), before + 1, "the crossing at 4");
    });
}
