//! Kubernetes-style probes and the Prometheus text.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::Telemetry;

/// Whether a service is ready: it is when each of its checks is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<&'static str, Result<(), String>>>>);

/// One part of a service that can be ready or not.
#[derive(Clone)]
pub struct Check {
    health: Health,
    name: &'static str,
}

impl Health {
    /// Adds a check, not ready yet.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { health: self.clone(), name };
        check.fail("starting");
        check
    }

    fn report(&self) -> (bool, BTreeMap<&'static str, String>) {
        let checks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ready = checks.values().all(Result::is_ok);
        let report = checks
            .iter()
            .map(|(name, state)| {
                (*name, state.as_ref().map_or_else(Clone::clone, |()| "ok".into()))
            })
            .collect();
        (ready, report)
    }
}

impl Check {
    /// This part is ready.
    pub fn pass(&self) {
        self.set(Ok(()));
    }

    /// This part is not ready, and why.
    pub fn fail(&self, why: impl Into<String>) {
        self.set(Err(why.into()));
    }

    fn set(&self, state: Result<(), String>) {
        self.health.0.write().unwrap_or_else(PoisonError::into_inner).insert(self.name, state);
    }
}

/// `GET /health/live`, `/health/ready` and `/metrics`.
pub(crate) fn router(health: Health, telemetry: Telemetry) -> Router {
    Router::new()
        .route("/health/live", get(async || "ok"))
        .route("/health/ready", get(ready))
        .with_state(health)
        .merge(Router::new().route("/metrics", get(metrics)).with_state(telemetry))
}

async fn ready(State(health): State<Health>) -> (StatusCode, Json<BTreeMap<&'static str, String>>) {
    let (ready, report) = health.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(report))
}

async fn metrics(State(telemetry): State<Telemetry>) -> Response {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT)], telemetry.render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_every_check_is() {
        let health = Health::default();
        let (store, broker) = (health.check("store"), health.check("broker"));
        assert!(!health.report().0);
        store.pass();
        assert!(!health.report().0);
        broker.pass();
        assert!(health.report().0);
        store.fail("the disk is full");
        let (ready, report) = health.report();
        assert!(!ready);
        assert_eq!(report["store"], "the disk is full");
    }
}
