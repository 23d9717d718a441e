//! The door before real instances: stubs on free ports, and a registry in memory.

mod caching;
mod proxying;
mod registration;
mod streams;
mod tunnels;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::Router;
use nats::BucketError;
use reqwest::RequestBuilder;
use schemas::http::Instance;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Config, door::Door, registry::Registry};

const INGEST: &str = "lizards-ingest";
const PROVIDE: &str = "lizards-provide";

#[derive(Default)]
struct InMemory(Mutex<Vec<Instance>>);

#[async_trait]
impl Registry for InMemory {
    fn instances(&self, service: &str) -> Vec<Instance> {
        self.all().into_iter().filter(|instance| instance.service == service).collect()
    }

    fn all(&self) -> Vec<Instance> {
        let mut all = self.0.lock().unwrap().clone();
        all.sort_by_key(|instance| (instance.service.clone(), instance.instance.clone()));
        all
    }

    async fn put(&self, instance: &Instance) -> Result<(), BucketError> {
        self.remove(&instance.service, &instance.instance).await?;
        self.0.lock().unwrap().push(instance.clone());
        Ok(())
    }

    async fn remove(&self, service: &str, instance: &str) -> Result<bool, BucketError> {
        let mut instances = self.0.lock().unwrap();
        let before = instances.len();
        instances.retain(|known| known.service != service || known.instance != instance);
        Ok(instances.len() < before)
    }
}

/// A gateway on a free port, and what it knows.
struct Gateway {
    address: SocketAddr,
    registry: Arc<InMemory>,
    door: Arc<Door>,
    shutdown: CancellationToken,
    client: reqwest::Client,
}

impl Gateway {
    async fn start(config: Config) -> Self {
        // It is installed already where another test of the process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = Arc::new(InMemory::default());
        let shutdown = CancellationToken::new();
        let door = Door::new(&config, registry.clone(), shutdown.clone());
        let address = serve(door.clone().router()).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, registry, door, shutdown, client }
    }

    async fn unlimited() -> Self {
        Self::start(Config { requests_per_second: 0, ..Config::default() }).await
    }

    async fn uncached() -> Self {
        let mut config = Config { requests_per_second: 0, ..Config::default() };
        config.cache.ttl_ms = 0;
        Self::start(config).await
    }

    fn knows(&self, service: &str, name: &str, address: SocketAddr, load: u64) {
        self.registry.0.lock().unwrap().push(Instance {
            service: service.into(),
            instance: name.into(),
            ip_address: address.ip().to_string(),
            port_number: address.port(),
            protocol: "http".into(),
            version: "0".into(),
            load,
            registered_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        });
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    async fn text(&self, path: &str) -> String {
        self.get(path).send().await.unwrap().text().await.unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn problem(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    (status, problem["detail"].as_str().unwrap().to_owned())
}
