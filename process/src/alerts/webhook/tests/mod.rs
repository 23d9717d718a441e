//! Receivers of all kinds, over real HTTP; only the broker and the buckets are in memory.

mod receiver;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use nats::Message;
use schemas::{
    Decimal, Source, Symbol,
    alert::{Alert, AlertRule, Deliveries, DeliveryState, Secret, StoredWebhook, WebhookUrl},
    subject,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{AlertsConfig, rules::Rules, tests::broker::Fake},
    address::PrivateAddress,
    line::MAX_WAITING,
    post::wait,
    *,
};
use receiver::Receiver;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn config() -> AlertsConfig {
    AlertsConfig {
        allow_private_webhooks: true,
        webhook_attempts: 3,
        webhook_first_retry_ms: 1,
        webhook_longest_retry_ms: 5,
        ..AlertsConfig::default()
    }
}

fn rule(id: &str, url: &str) -> Arc<AlertRule> {
    let url = WebhookUrl::parse(url).unwrap();
    Arc::new(AlertRule {
        id: id.to_owned(),
        condition: "A > 1".parse().unwrap(),
        webhook: Some(StoredWebhook { url, secret: Secret::new(SECRET.to_owned()) }),
        owner: None,
        created_at: Timestamp::UNIX_EPOCH,
    })
}

fn rules(rules: &[Arc<AlertRule>]) -> Option<Arc<Rules>> {
    Some(Arc::new(rules.iter().map(|rule| (rule.id.clone(), Arc::clone(rule))).collect()))
}

/// An alert of a rule, as it is in `ALERTS` at this sequence.
fn alert(rule: &str, sequence: u64) -> Message {
    let alert = Alert {
        id: Alert::id(rule, sequence),
        rule: rule.to_owned(),
        condition: "A > 1".parse().unwrap(),
        symbol: Symbol::new("A").unwrap(),
        value: Decimal::parse("1.50").unwrap(),
        bound: Decimal::ONE,
        price: Decimal::parse("1.50").unwrap(),
        ts: Timestamp::UNIX_EPOCH,
        source: Source::new("sim").unwrap(),
        seq: sequence,
        owner: None,
    };
    Message {
        subject: subject::alert(&alert.symbol),
        headers: nats::Headers::default(),
        body: serde_json::to_vec(&alert).unwrap().into(),
        sequence,
        stored_at: Timestamp::UNIX_EPOCH,
    }
}

/// A deliverer and what it works with.
struct Fixture {
    broker: Fake,
    send: watch::Sender<Option<Arc<Rules>>>,
    receive: RulesReceiver,
    deliverer: Arc<Deliverer>,
}

impl Fixture {
    fn with(config: AlertsConfig, known: &[Arc<AlertRule>]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let broker = Fake::new(Vec::new());
        let (send, receive) = watch::channel(rules(known));
        let deliverer = Arc::new(Deliverer {
            broker: Arc::new(broker.clone()),
            rules: Box::new(Fake::new(Vec::new())),
            store: Arc::new(broker.clone()),
            poster: Arc::new(Poster::new(&config).unwrap()),
            config,
            drain_deadline: PATIENCE,
        });
        Self { broker, send, receive, deliverer }
    }

    /// Stores the next alert of a rule.
    fn fire(&self, rule: &str) {
        let mut state = self.broker.state();
        let sequence = state.alerts.len() as u64 + 1;
        state.alerts.push(alert(rule, sequence));
    }

    /// Delivers while `story` goes on.
    async fn run<T>(&self, story: impl Future<Output = T>) -> T {
        let stop = CancellationToken::new();
        let story = async {
            let told = timeout(PATIENCE, story).await.expect("the story comes to its end");
            stop.cancel();
            told
        };
        let (ended, told) =
            tokio::join!(self.deliverer.session(&stop, self.receive.clone()), story);
        ended.unwrap();
        told
    }

    /// What is saved of a rule.
    fn deliveries(&self, rule: &str) -> Deliveries {
        let state = self.broker.state();
        let saved =
            state.keys.entries.get(rule).map(|(value, _)| serde_json::from_slice(value).unwrap());
        saved.unwrap_or_default()
    }

    /// Waits until that many alerts of a rule are done with; what is saved of it.
    async fn done(&self, rule: &str, sequence: u64) -> Deliveries {
        loop {
            let deliveries = self.deliveries(rule);
            if deliveries.done_through >= sequence {
                return deliveries;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn an_alert_is_posted_once_signed_as_standard_webhooks_has_it() {
    let receiver = Receiver::start(&[]).await;
    let fixture = Fixture::with(config(), &[rule("a", &receiver.url)]);
    fixture.fire("a");
    let deliveries = fixture.run(fixture.done("a", 1)).await;
    let [post] = &receiver.posts()[..] else { panic!("not one post") };
    post.verify(SECRET);
    assert_eq!(post.id, "a-1");
    let data = &post.body["data"];
    assert_eq!(post.body["type"], "alert.fired");
    assert_eq!((&data["rule"], &data["value"]), (&"a".into(), &"1.50".into()));
    let [delivery] = &deliveries.newest[..] else { panic!("{deliveries:?}") };
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 1));
    assert_eq!((delivery.status, &delivery.fault), (Some(200), &None));
    // A successor knows.
    fixture.fire("a");
    fixture.run(fixture.done("a", 2)).await;
    assert_eq!(receiver.ids(), ["a-1", "a-2"]);
}

#[tokio::test]
async fn a_failure_is_tried_again_with_the_same_id_and_given_up_in_the_end() {
    let receiver = Receiver::start(&["500", "503", "200", "404", "302", "hang"]).await;
    let quick = AlertsConfig { webhook_timeout_ms: 100, ..config() };
    let fixture = Fixture::with(quick, &[rule("a", &receiver.url)]);
    fixture.fire("a");
    fixture.fire("a");
    let deliveries = fixture.run(fixture.done("a", 2)).await;
    assert_eq!(receiver.ids(), ["a-1", "a-1", "a-1", "a-2", "a-2", "a-2"]);
    receiver.posts().iter().for_each(|post| post.verify(SECRET));
    assert_eq!(receiver.redirected(), 0, "a redirect is not followed");
    let [second, first] = &deliveries.newest[..] else { panic!("{deliveries:?}") };
    assert_eq!((first.state, first.attempts), (DeliveryState::Delivered, 3));
    assert_eq!((second.state, second.attempts), (DeliveryState::Failed, 3));
    assert_eq!(second.fault.as_deref(), Some("it did not answer in time"));
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_nothing_more() {
    let receiver = Receiver::start(&["410"]).await;
    let fixture = Fixture::with(config(), &[rule("a", &receiver.url)]);
    fixture.fire("a");
    fixture.fire("a");
    let deliveries = fixture.run(fixture.done("a", 2)).await;
    assert_eq!(receiver.ids(), ["a-1"]);
    assert!(deliveries.gone);
    assert!(deliveries.newest.iter().all(|delivery| delivery.state == DeliveryState::Failed));
}

#[tokio::test]
async fn a_receiver_is_not_asked_again_before_it_wants() {
    let receiver = Receiver::start(&["429"]).await;
    let fixture = Fixture::with(config(), &[rule("a", &receiver.url)]);
    fixture.fire("a");
    fixture.run(fixture.done("a", 1)).await;
    let [first, second] = &receiver.posts()[..] else { panic!("not two posts") };
    // The backoff alone would be some milliseconds; the receiver has asked for a second.
    assert!(second.at - first.at >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_dead_receiver_delays_nobody_else_and_nothing_is_lost() {
    let dead = Receiver::start(&["hang"; 200]).await;
    let alive = Receiver::start(&[]).await;
    let slow = AlertsConfig { webhook_timeout_ms: 60_000, ..config() };
    let fixture = Fixture::with(slow, &[rule("dead", &dead.url), rule("alive", &alive.url)]);
    let count = 3 * MAX_WAITING as u64;
    for _ in 0..count {
        fixture.fire("dead");
        fixture.fire("alive");
    }
    let deliverer = Arc::clone(&fixture.deliverer);
    let receive = fixture.receive.clone();
    // It hangs for longer than the test: nobody waits for it to end.
    let session =
        tokio::spawn(async move { deliverer.session(&CancellationToken::new(), receive).await });
    timeout(PATIENCE, async {
        while alive.posts().len() < usize::try_from(count).unwrap() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all reach the one that lives");
    assert_eq!(dead.posts().len(), 1);
    session.abort();
    // Its successor begins at the one that hung, and posts nothing again that has arrived.
    let _ = session.await;
    let answered = fixture.deliveries("alive").done_through;
    let receiver = Receiver::start(&[]).await;
    fixture.send.send_replace(rules(&[rule("dead", &receiver.url), rule("alive", &alive.url)]));
    fixture.run(fixture.done("dead", 2 * count - 1)).await;
    assert_eq!(receiver.ids().first().map(String::as_str), Some("dead-1"));
    let again = alive.ids().len() - usize::try_from(count).unwrap();
    assert!(again <= 1, "{again} were posted again, {answered} were saved");
}

#[tokio::test]
async fn what_does_not_fit_a_queue_is_read_again_and_comes_in_order() {
    let receiver = Receiver::start(&["hang-a-little"]).await;
    let other = Receiver::start(&[]).await;
    let fixture = Fixture::with(config(), &[rule("a", &receiver.url), rule("b", &other.url)]);
    let mut expected = Vec::new();
    for n in 1..=3 * MAX_WAITING {
        if n.is_multiple_of(3) {
            fixture.fire("b");
        } else {
            fixture.fire("a");
            expected.push(format!("a-{n}"));
        }
    }
    let story = async {
        fixture.done("a", 2).await;
        // It goes on live, behind what it reads again.
        fixture.fire("a");
        fixture.done("a", 3 * MAX_WAITING as u64 + 1).await;
    };
    fixture.run(story).await;
    expected.push(format!("a-{}", 3 * MAX_WAITING + 1));
    assert_eq!(receiver.ids(), expected);
    assert_eq!(other.posts().len(), MAX_WAITING);
}

#[tokio::test]
async fn an_address_inside_is_never_connected_to() {
    let receiver = Receiver::start(&[]).await;
    let port = receiver.url.rsplit(':').next().unwrap().to_owned();
    let inside = [
        format!("http://127.0.0.1:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        // A name that is looked up.
        format!("http://localhost:{port}"),
    ];
    let strict = AlertsConfig { allow_private_webhooks: false, ..config() };
    let ids = ["a", "b", "c", "d"];
    let known: Vec<_> = ids.iter().zip(&inside).map(|(id, url)| rule(id, url)).collect();
    let fixture = Fixture::with(strict, &known);
    ids.iter().for_each(|id| fixture.fire(id));
    fixture
        .run(async {
            for (sequence, id) in (1..).zip(ids) {
                let deliveries = fixture.done(id, sequence).await;
                let [delivery] = &deliveries.newest[..] else { panic!("{deliveries:?}") };
                assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Failed, 1), "{id}");
                assert_eq!(delivery.fault, Some(PrivateAddress.to_string()), "{id}");
            }
        })
        .await;
    assert!(receiver.posts().is_empty());
}

#[tokio::test]
async fn what_is_left_of_a_deleted_rule_goes_with_it() {
    let receiver = Receiver::start(&[]).await;
    let known = rule("a", &receiver.url);
    let fixture = Fixture::with(config(), &[Arc::clone(&known)]);
    fixture.fire("a");
    fixture.fire("b");
    fixture.run(fixture.done("a", 1)).await;
    fixture.send.send_replace(rules(&[]));
    fixture
        .run(async {
            while fixture.broker.state().keys.entries.contains_key("a") {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    assert_eq!(receiver.ids(), ["a-1"], "b is no rule");
}

#[test]
fn what_a_receiver_asks_for_is_read_and_bounded() {
    let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
    for (text, seconds) in [
        ("120", Some(120)),
        ("0", Some(0)),
        ("999999999", Some(3_600)),
        ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
        ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ] {
        assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text}");
    }
}
