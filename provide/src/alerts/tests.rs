//! The rules over HTTP, kept in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use nats::BucketError;
use reqwest::{Client, Response};
use schemas::alert::{AlertRule, AlertStatus, Deliveries};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{AlertLimits, Rules, router};
use crate::{
    access::Access,
    config::{ApiKey, WebSocketConfig},
};

#[derive(Default)]
struct InMemory(Mutex<BTreeMap<String, AlertRule>>);

#[async_trait]
impl Rules for InMemory {
    async fn all(&self) -> Result<Vec<AlertRule>, BucketError> {
        Ok(self.0.lock().unwrap().values().cloned().collect())
    }

    async fn get(&self, id: &str) -> Result<Option<AlertRule>, BucketError> {
        Ok(self.0.lock().unwrap().get(id).cloned())
    }

    async fn insert(&self, rule: &AlertRule) -> Result<(), BucketError> {
        self.0.lock().unwrap().insert(rule.id.clone(), rule.clone());
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), BucketError> {
        self.0.lock().unwrap().remove(id);
        Ok(())
    }

    async fn status(&self, id: &str) -> Result<(Option<AlertStatus>, Deliveries), BucketError> {
        let status = AlertStatus { holds: true, last_alert: Some(format!("{id}-7")) };
        Ok((Some(status), Deliveries { gone: true, ..Deliveries::default() }))
    }
}

struct Fixture {
    rules: Arc<InMemory>,
    url: String,
    client: Client,
    _stop: DropGuard,
}

impl Fixture {
    async fn with(config: WebSocketConfig, limits: AlertLimits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rules = Arc::new(InMemory::default());
        let kept: Arc<dyn Rules> = Arc::clone(&rules) as _;
        let app = router(kept, Arc::new(Access::new(&config)), limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(service::serve(listener, app, Duration::from_secs(10), stop.clone()));
        let client = Client::builder().no_proxy().build().unwrap();
        Self { rules, url, client, _stop: stop.drop_guard() }
    }

    async fn start() -> Self {
        let limits = AlertLimits { max_rules: 3, allow_private_webhooks: false };
        Self::with(WebSocketConfig::default(), limits).await
    }

    async fn set(&self, body: Value) -> Response {
        self.client.post(&self.url).json(&body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap()
    }
}

#[tokio::test]
async fn a_rule_is_set_listed_shown_and_deleted_and_its_secret_shown_once() {
    let server = Fixture::start().await;
    let url = "https://example.com/hook";
    let set = server.set(json!({"condition": "AAPL>200.0", "webhook_url": url})).await;
    assert_eq!(set.status(), 201);
    assert_eq!(set.headers()["cache-control"], "no-store");
    let location = set.headers()["location"].to_str().unwrap().to_owned();
    let rule: Value = set.json().await.unwrap();
    let id = rule["id"].as_str().unwrap();
    assert_eq!(location, format!("/alerts/{id}"));
    assert_eq!((&rule["condition"], &rule["webhook_url"]), (&"AAPL > 200.0".into(), &url.into()));
    let secret = rule["webhook_secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 32, "{secret}");
    let other: Value = server.set(json!({"condition": "TSLA < 1"})).await.json().await.unwrap();
    assert!(other.get("webhook_secret").is_none() && other.get("webhook_url").is_none());

    let list = server.get("").await.text().await.unwrap();
    assert!(!list.contains("whsec_"), "{list}");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(list["alerts"][0]["id"], id);
    let shown = server.get(&format!("/{id}")).await.text().await.unwrap();
    assert!(!shown.contains("whsec_"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["condition"], "AAPL > 200.0");
    assert_eq!(shown["status"], json!({"holds": true, "last_alert": format!("{id}-7")}));
    assert_eq!((&shown["webhook_gone"], &shown["deliveries"]), (&true.into(), &json!([])));
    let kept = server.rules.0.lock().unwrap()[id].clone();
    assert_eq!(kept.webhook.as_ref().unwrap().secret.expose(), secret);
    assert!(!format!("{kept:?}").contains("whsec_"));

    let delete = || server.client.delete(format!("{}/{id}", server.url)).send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 404);
    assert_eq!(server.get(&format!("/{id}")).await.status(), 404);
    assert_eq!(server.get("/no.key").await.status(), 404);
}

#[tokio::test]
async fn a_fault_names_its_field() {
    let server = Fixture::start().await;
    for (body, detail) in [
        (json!([]), "the body must be a JSON object"),
        (json!({}), "condition: is missing"),
        (json!({"condition": 5}), "condition: must be a text, not 5"),
        (json!({"condition": "AAPL > x"}), "condition: at character 8: \"x\" is not a decimal"),
        (json!({"condition": "A > 1", "colour": "red"}), "colour: there is no such field"),
        (json!({"condition": "A > 1", "webhook_url": "x"}), "webhook_url: it is not an absolute"),
        (
            json!({"condition": "A > 1", "webhook_url": "http://0x7f.1/"}),
            "webhook_url: it is not an address of the public internet",
        ),
        (
            json!({"condition": "A > 1", "webhook_url": "http://[fd00:ec2::254]/latest"}),
            "webhook_url: it is not an address of the public internet",
        ),
    ] {
        let refused = server.set(body.clone()).await;
        assert_eq!(refused.status(), 400, "{body}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().starts_with(detail), "{body}: {problem}");
    }
    assert!(server.rules.0.lock().unwrap().is_empty());
    let large = json!({"condition": "x".repeat(20_000)});
    assert_eq!(server.set(large).await.status(), 413);
}

#[tokio::test]
async fn there_are_no_more_rules_than_allowed() {
    let server = Fixture::start().await;
    for expected in [201, 201, 201, 409] {
        assert_eq!(server.set(json!({"condition": "A > 1"})).await.status(), expected);
    }
}

#[tokio::test]
async fn where_it_is_allowed_a_webhook_may_be_inside() {
    let limits = AlertLimits { max_rules: 1, allow_private_webhooks: true };
    let server = Fixture::with(WebSocketConfig::default(), limits).await;
    let body = json!({"condition": "A > 1", "webhook_url": "http://127.0.0.1:9/"});
    assert_eq!(server.set(body).await.status(), 201);
}

#[tokio::test]
async fn an_api_key_sets_and_sees_its_own_rules_about_its_own_symbols() {
    let key = |name: &str, key: &str| ApiKey {
        name: name.to_owned(),
        key: key.to_owned(),
        symbols: vec!["AAPL".to_owned()],
    };
    let config = WebSocketConfig {
        token_key: "0123456789abcdef0123456789abcdef".to_owned(),
        api_keys: vec![key("desk", "correct-horse-battery"), key("page", "staple-of-every-page")],
        ..WebSocketConfig::default()
    };
    let limits = AlertLimits { max_rules: 3, allow_private_webhooks: false };
    let server = Fixture::with(config, limits).await;
    assert_eq!(server.set(json!({"condition": "AAPL > 1"})).await.status(), 401);
    assert_eq!(server.get("").await.status(), 401);
    let set = |condition: &str| {
        let post = server.client.post(&server.url).bearer_auth("correct-horse-battery");
        post.json(&json!({"condition": condition})).send()
    };
    assert_eq!(set("MSFT > 1").await.unwrap().status(), 403);
    let rule: Value = set("AAPL > 1").await.unwrap().json().await.unwrap();
    let path = format!("/{}", rule["id"].as_str().unwrap());
    for (key, status, count) in
        [("correct-horse-battery", 200, 1), ("staple-of-every-page", 404, 0)]
    {
        let get =
            |path: &str| server.client.get(format!("{}{path}", server.url)).bearer_auth(key).send();
        assert_eq!(get(&path).await.unwrap().status(), status);
        let list: Value = get("").await.unwrap().json().await.unwrap();
        assert_eq!(list["alerts"].as_array().unwrap().len(), count);
    }
    let delete = server.client.delete(format!("{}{path}", server.url));
    let other = delete.bearer_auth("staple-of-every-page").send().await.unwrap();
    assert_eq!(other.status(), 404);
}
