//! The gateway in front of several providers: routing by registry, balancing, limits, caching.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use schemas::{ClientMessage, ServerMessage, Subscribe};

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, install_crypto},
    subscriber::{connect, next, send},
};

const PATIENCE: Duration = Duration::from_secs(60);

struct House {
    nats: NatsServer,
    installation: Installation,
    registry: Arc<Registry>,
    _processes: Vec<Process>,
}

impl House {
    /// All roles, with two providers that share a store of ticks.
    async fn with_two_providers() -> Self {
        let nats = NatsServer::start().await;
        let installation = Installation::at(&nats.url());
        let registry = Arc::new(Registry::at(&nats.url()).await);
        let processes = ["ingest", "process", "provide", "provide", "gateway"]
            .map(|role| installation.role(role))
            .into();
        eventually(PATIENCE, "two providers are registered", async || {
            (registry.instances("provide").len() == 2).then_some(())
        })
        .await;
        Self { nats, installation, registry, _processes: processes }
    }

    async fn metric(&self, address: &str, name: &str) -> f64 {
        install_crypto();
        let url = format!("http://{address}/metrics");
        let text = reqwest::get(url).await.expect("an answer").text().await.expect("text");
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_shared_by_two_providers_and_all_get_prices() {
    let house = House::with_two_providers().await;
    let gateway = house.registry.address("gateway").await;
    eventually(PATIENCE, "a quote", async || {
        install_crypto();
        let answer = reqwest::get(format!("http://{gateway}/quotes/AAPL")).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let mut socket = connect(&house.registry).await.expect("the gateway tunnels");
        let subscribe = Subscribe { symbols: vec!["*".into()], ..Subscribe::default() };
        send(&mut socket, &ClientMessage::Subscribe(subscribe)).await.expect("open");
        next(&mut socket, |m| matches!(m, ServerMessage::PriceUpdate { .. }).then_some(())).await;
        sockets.push(socket);
    }
    for provider in house.registry.instances("provide") {
        let address = format!("{}:{}", provider.ip_address, provider.port_number);
        let connections = house.metric(&address, "lizards_provide_connections").await;
        assert!(connections >= 3.0, "{connections} of 10 clients are at {address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_request_serves_many() {
    let mut house = House::with_two_providers().await;
    house.installation.set("gateway.cache.ttl_ms", 60_000);
    let before = house.registry.address("gateway").await;
    let _caching = house.installation.role("gateway");
    let gateway = eventually(PATIENCE, "the second gateway is registered", async || {
        Some(house.registry.address("gateway").await).filter(|address| *address != before)
    })
    .await;
    install_crypto();
    let client = reqwest::Client::new();
    let get = async || {
        let answer =
            client.get(format!("http://{gateway}/symbols")).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    };
    eventually(PATIENCE, "the providers answer", async || {
        let answer = client.get(format!("http://{gateway}/symbols?query=A")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let misses = house.metric(&gateway, "lizards_gateway_cache_misses_total").await;
    join_all((0..50).map(|_| get())).await;
    let misses = house.metric(&gateway, "lizards_gateway_cache_misses_total").await - misses;
    assert!((misses - 1.0).abs() < f64::EPSILON, "{misses} upstream requests for 50");
    assert!(house.metric(&gateway, "lizards_gateway_cache_hits_total").await >= 49.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    installation.set("gateway.requests_per_second", 2);
    installation.set("gateway.burst", 5);
    let registry = Registry::at(&nats.url()).await;
    let _gateway = installation.role("gateway");
    let gateway = registry.address("gateway").await;
    install_crypto();
    let mut refused = 0;
    for _ in 0..20 {
        let answer = reqwest::get(format!("http://{gateway}/services")).await.expect("an answer");
        if answer.status() == 429 {
            refused += 1;
            let after = answer.headers()["retry-after"].to_str().expect("text").to_owned();
            assert!(after.parse::<u64>().expect("seconds") >= 1, "{after}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }
    assert!((10..=15).contains(&refused), "{refused} of 20 were refused");
    let live = reqwest::get(format!("http://{gateway}/health/live")).await.expect("an answer");
    assert!(live.status().is_success(), "probes are never limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_dies_is_left_out() {
    let house = House::with_two_providers().await;
    let gateway = house.registry.address("gateway").await;
    let mut third = house.installation.role("provide");
    eventually(PATIENCE, "a third provider is registered", async || {
        (house.registry.instances("provide").len() == 3).then_some(())
    })
    .await;
    third.kill().await;
    install_crypto();
    let client = reqwest::Client::new();
    for n in 0..30 {
        let url = format!("http://{gateway}/symbols?query={n}");
        let answer = client.get(url).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    eventually(PATIENCE, "the registry has forgotten it", async || {
        (house.registry.instances("provide").len() == 2).then_some(())
    })
    .await;
    assert!(house.nats.url().starts_with("nats://"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_speak_nats_is_registered_over_http() {
    let nats = NatsServer::start().await;
    let installation = Installation::at(&nats.url());
    let registry = Registry::at(&nats.url()).await;
    let _gateway = installation.role("gateway");
    let url = format!("http://{}/services/reports", registry.address("gateway").await);
    install_crypto();
    let client = reqwest::Client::new();
    let body = serde_json::json!({
        "name": "one", "ip_address": "10.0.0.7", "port_number": 9000, "protocol": "http"
    });
    let posted = client.post(&url).json(&body).send().await.expect("an answer");
    assert_eq!(posted.status(), 200);
    let entry: serde_json::Value = eventually(PATIENCE, "it is listed", async || {
        let answer = client.get(&url).send().await.ok()?.error_for_status().ok()?;
        answer.json().await.ok()
    })
    .await;
    assert_eq!(entry["service_name"], "reports");
    assert_eq!(entry["instances"][0]["ip_address"], "10.0.0.7");
    let bad = serde_json::json!({ "name": "one", "ip_address": "10.0.0.7", "protocol": "http" });
    let refused = client.post(&url).json(&bad).send().await.expect("an answer");
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.expect("text").contains("port_number"));
    let deleted = client.delete(format!("{url}/one")).send().await.expect("an answer");
    assert_eq!(deleted.status(), 204);
    let again = client.delete(format!("{url}/one")).send().await.expect("an answer");
    assert_eq!(again.status(), 404);
    // It is a lease: what is not posted again goes.
    let posted = client.post(&url).json(&body).send().await.expect("an answer");
    assert_eq!(posted.status(), 200);
    eventually(PATIENCE, "it is there again", async || {
        (!registry.instances_of("reports").is_empty()).then_some(())
    })
    .await;
    eventually(PATIENCE, "its lease has run out", async || {
        registry.instances_of("reports").is_empty().then_some(())
    })
    .await;
}
