//! The handles that all roles share, and how a role becomes reachable.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::Router;
use jiff::Timestamp;
use nats::{Broker, BucketError, Endpoint, Nats};
use schemars::JsonSchema;
use schemas::http::Instance;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Health, Telemetry, health,
    serve::{HEAD_TIMEOUT, Protocols, serve_protocols},
};

/// What all services of a process share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// The name of this instance in the registry. Empty: made from the process and the time.
    pub instance: String,
    /// The address at which other machines reach this one, written into the registry. Empty: the
    /// address that the service listens on, and 127.0.0.1 where that is every address.
    pub advertise: String,
    /// How long a lease or a registration outlives its owner, in milliseconds.
    pub lease_ttl_ms: u64,
    /// How long the parts of a role may take to drain at shutdown, in milliseconds.
    pub shutdown_deadline_ms: u64,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            instance: String::new(),
            advertise: String::new(),
            lease_ttl_ms: 5_000,
            shutdown_deadline_ms: 10_000,
        }
    }
}

/// The handles that all roles share. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The connection to NATS: registry, leases, buckets.
    pub nats: Nats,
    /// What carries the ticks.
    pub broker: Arc<dyn Broker>,
    /// The name of this instance.
    pub instance: Arc<str>,
    /// The address other machines reach us at; empty is the listener's own.
    pub advertise: Arc<str>,
    /// Cancelled when the process is to stop: drain, then return.
    pub shutdown: CancellationToken,
    /// How long draining may take.
    pub shutdown_deadline: Duration,
    /// Where `/metrics` come from.
    pub telemetry: Telemetry,
}

/// One role as a service: what it listens on and what it answers.
pub struct Role {
    /// Its name in the registry and the services API: `lizards-provide`.
    pub name: &'static str,
    /// Where it listens; already bound, so that a test can bind port 0.
    pub listener: TcpListener,
    /// What it answers, beside health and metrics.
    pub router: Router,
    /// What its listener speaks.
    pub protocols: Protocols,
    /// What it answers over NATS.
    pub endpoints: Vec<Endpoint>,
    /// Whether it is ready.
    pub health: Health,
    /// How busy it is, in units of its own.
    pub load: Arc<AtomicU64>,
}

/// A role cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener fails.
    #[error("the HTTP listener of {role} fails: {fault}")]
    Listener {
        /// Which role.
        role: &'static str,
        /// What happened.
        fault: std::io::Error,
    },
    /// It cannot be registered.
    #[error(transparent)]
    Registry(#[from] BucketError),
    /// It cannot be announced.
    #[error(transparent)]
    Announcement(#[from] nats::BrokerError),
}

impl Context {
    /// Serves a role until shutdown: registered, announced, with `/health` and `/metrics`.
    ///
    /// At shutdown the registration goes first, so that nobody new is sent here; then open
    /// requests may finish within the deadline.
    pub async fn serve(&self, role: Role) -> Result<(), ServeError> {
        let Role { name, listener, router, protocols, endpoints, health, load } = role;
        let listener_fault = |fault| ServeError::Listener { role: name, fault };
        let address = listener.local_addr().map_err(listener_fault)?;
        let instance = self.instance_at(name, address);
        let registration = nats::register(&self.nats, instance.clone(), load).await?;
        let announcement = nats::announce(&self.nats, &instance, endpoints).await?;
        info!(role = name, %address, "serving");

        let router = router.merge(health::router(health, self.telemetry.clone()));
        let stop = CancellationToken::new();
        let server = serve_protocols(listener, router, protocols, HEAD_TIMEOUT, stop.clone());
        tokio::pin!(server);
        tokio::select! {
            () = &mut server => return Ok(()),
            () = self.shutdown.cancelled() => {}
        }
        announcement.close().await;
        registration.close().await;
        stop.cancel();
        if tokio::time::timeout(self.shutdown_deadline, server).await.is_err() {
            warn!(role = name, "requests were still open at the shutdown deadline");
        }
        Ok(())
    }

    fn instance_at(&self, service: &str, address: SocketAddr) -> Instance {
        let ip_address = if !self.advertise.is_empty() {
            self.advertise.to_string()
        } else if address.ip().is_unspecified() {
            warn!(role = service, "service.advertise is empty: only this machine will find it");
            Ipv4Addr::LOCALHOST.to_string()
        } else {
            address.ip().to_string()
        };
        Instance {
            service: service.to_owned(),
            instance: self.instance.to_string(),
            ip_address,
            port_number: address.port(),
            protocol: "http".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            load: 0,
            registered_at: Timestamp::now(),
        }
    }
}
