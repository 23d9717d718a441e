//! A rule set at the gateway fires once per crossing, whoever is killed.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::HeaderMap;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use nats::{Broker, Exclusivity, NewMessage, Publisher, Start, topology::Stream};
use reqwest::Client;
use ring::hmac;
use schemas::{
    ClientMessage, Format, RawTick, ServerMessage, Source, Subscribe, Symbol,
    alert::{Alert, Delivery, DeliveryState},
    http::{AlertRuleDetails, AlertRuleInfo},
    subject,
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    brokers::Ground,
    eventually::eventually,
    servers,
    subscriber::{connect, next, send},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A provider that sends what the test wants.
struct Provider {
    publisher: Box<dyn Publisher>,
    sent: u64,
}

impl Provider {
    async fn send(&mut self, symbol: &str, price: &str) {
        self.sent += 1;
        let now = Timestamp::now();
        let symbol = Symbol::new(symbol).unwrap();
        let body = json!({"symbol": symbol, "price": price, "size": "1", "ts": now});
        let raw = RawTick {
            id: format!("test:{}", self.sent),
            source: Source::new("push:test").unwrap(),
            symbol: Some(symbol),
            received_at: now,
            content_type: "application/json".to_owned(),
            format: Format::Sim,
            columns: None,
            body: body.to_string().into(),
        };
        let subject = subject::raw(&raw.source, raw.symbol.as_ref());
        let message = NewMessage { subject, headers: raw.headers(), body: raw.body };
        self.publisher.send(message).await.expect("NATS runs");
        self.publisher.confirmed().await.expect("it is stored");
    }
}

/// A receiver of webhooks.
struct Receiver {
    url: String,
    posts: Arc<Mutex<Vec<Post>>>,
}

/// What it was sent.
#[derive(Clone)]
struct Post {
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

impl Receiver {
    async fn start() -> Self {
        let posts = Arc::<Mutex<Vec<Post>>>::default();
        let kept = Arc::clone(&posts);
        let receive = axum::routing::post(async move |headers: HeaderMap, body: String| {
            let text = |name: &str| headers[name].to_str().expect("ASCII").to_owned();
            let (id, timestamp) = (text("webhook-id"), text("webhook-timestamp"));
            let signature = text("webhook-signature");
            kept.lock().unwrap().push(Post { id, timestamp, signature, body });
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/hook", receive);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, posts }
    }

    fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }
}

impl Post {
    fn verify(&self, secret: &str) {
        let key = secret.strip_prefix("whsec_").expect("a secret of Standard Webhooks");
        let key = BASE64_STANDARD.decode(key).expect("base64");
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let tag = self.signature.strip_prefix("v1,").expect("version 1");
        let tag = BASE64_STANDARD.decode(tag).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature is right");
    }
}

/// The alerts that are stored.
async fn stored(broker: &dyn Broker) -> Vec<Alert> {
    let count = broker.state(Stream::Alerts).await.expect("NATS runs").messages;
    let mut reader = broker.reader(Stream::Alerts, &[], Start::Sequence(1)).await.expect("it is");
    let mut alerts = Vec::new();
    for _ in 0..count {
        let message = reader.next().await.expect("it holds so many");
        alerts.push(serde_json::from_slice(&message.body).expect("an alert"));
    }
    alerts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crossing_fires_once_although_its_judge_is_killed() {
    cross_and_kill(Ground::jetstream().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crossing_fires_once_over_rabbitmq_although_its_judge_is_killed() {
    cross_and_kill(Ground::rabbitmq().await).await;
}

/// Sets a rule, crosses its price, and kills its judge between two crossings.
async fn cross_and_kill(ground: Ground) {
    servers::install_crypto();
    let (mut installation, registry, broker) =
        (ground.installation, ground.registry, ground.broker);
    installation.set("process.alerts.allow_private_webhooks", true);
    let receiver = Receiver::start().await;
    let _others = ["provide", "gateway"].map(|role| installation.role(role));
    let mut process = installation.role("process");
    let door = format!("http://{}", registry.address("gateway").await);
    registry.address("provide").await;
    let client = Client::builder().no_proxy().build().unwrap();

    let rule: AlertRuleInfo = eventually(PATIENCE, "a rule is set", async || {
        let body = json!({"condition": "ACME > 200", "webhook_url": receiver.url});
        let post = client.post(format!("{door}/alerts")).json(&body);
        let answer = post.send().await.ok().filter(|answer| answer.status() == 201)?;
        answer.json().await.ok()
    })
    .await;
    let refused = client.post(format!("{door}/alerts")).json(&json!({"condition": "ACME > x"}));
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("condition: at character 8"));
    let details = format!("{door}/alerts/{}", rule.id);
    let show =
        async || client.get(&details).send().await.ok()?.json::<AlertRuleDetails>().await.ok();
    eventually(PATIENCE, "the rule is judged", async || show().await?.status).await;

    let mut socket = connect(&registry).await.expect("the gateway tunnels");
    let subscribe = Subscribe { alerts: vec![rule.id.clone()], ..Subscribe::default() };
    send(&mut socket, &ClientMessage::Subscribe(subscribe)).await.expect("open");
    let subscribed = next(&mut socket, |message| match message {
        ServerMessage::Subscribed(subscribed) => Some(subscribed.alerts),
        _ => None,
    });
    assert_eq!(subscribed.await, [rule.id.as_str()]);
    let mut alert = async || {
        next(&mut socket, |message| match message {
            ServerMessage::Alert { data } => Some(data),
            _ => None,
        })
        .await
    };

    let publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await.expect("NATS");
    let mut provider = Provider { publisher, sent: 0 };
    for price in ["199", "201", "202"] {
        provider.send("ACME", price).await;
    }
    let first = alert().await;
    assert_eq!((&first.rule, first.value.to_string().as_str()), (&rule.id, "201"));

    // What it knows is saved each few seconds only: its successor reads the crossing again.
    process.kill().await;
    provider.send("ACME", "203").await;
    process.start_again().await;
    for price in ["204", "200", "200.01"] {
        provider.send("ACME", price).await;
    }
    let second = alert().await;
    assert_eq!(second.value.to_string(), "200.01");
    let first_id = first.id.clone();
    assert_eq!(stored(&*broker).await, [first, second.clone()]);
    eventually(PATIENCE, "the rule says so", async || {
        (show().await?.status?.last_alert? == second.id).then_some(())
    })
    .await;
    let deliveries = eventually(PATIENCE, "the webhook has both", async || {
        let deliveries = show().await?.deliveries;
        let delivered = |it: &Delivery| it.state == DeliveryState::Delivered;
        (deliveries.len() == 2 && deliveries.iter().all(delivered)).then_some(deliveries)
    })
    .await;
    assert_eq!([&deliveries[1].alert, &deliveries[0].alert], [&first_id, &second.id]);
    let posts = receiver.posts();
    let secret = rule.webhook_secret.expect("it is shown once");
    posts.iter().for_each(|post| post.verify(&secret));
    let mut ids: Vec<_> = posts.iter().map(|post| post.id.clone()).collect();
    // One that was posted when its deliverer was killed is posted again, with its id.
    ids.dedup();
    assert_eq!(ids, [first_id, second.id]);

    let deleted = client.delete(&details).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(client.get(&details).send().await.unwrap().status(), 404);
    let state = registry.nats.alert_state().await.expect("NATS");
    let key = format!("rule.{}", rule.id);
    eventually(PATIENCE, "the rule is judged no more", async || {
        state.get(&key).await.ok()?.is_none().then_some(())
    })
    .await;
}
