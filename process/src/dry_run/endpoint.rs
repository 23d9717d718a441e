//! Dry runs by a request to NATS, at endpoints of the service `lizards-process`: one where whoever is free
//! answers anybody, and one for each instance, where it answers the others.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use nats::{Endpoint, Handler, ServiceError, ServiceRequest};
use schemas::subject;

use super::{DryRuns, Refusal, question::Question, request::Request};

/// Answers at the subject `lizards.process.dry_run`, and at the one that has the instance's name behind it.
pub(crate) fn endpoints(runs: Arc<DryRuns>) -> Vec<Endpoint> {
    let own = subject::dry_run_of(&runs.me);
    let of_instance = Endpoint {
        name: "dry_run_part",
        subject: own,
        description: "What would this instance make of the events of its own partitions?",
        handler: Arc::new(OfInstance(Arc::clone(&runs))),
    };
    let of_all = Endpoint {
        name: "dry_run",
        subject: subject::DRY_RUN.to_owned(),
        description: "What would this payload become? Nothing is published, stored or remembered.",
        handler: runs,
    };
    vec![of_all, of_instance]
}

#[async_trait]
impl Handler for DryRuns {
    async fn answer(&self, request: ServiceRequest) -> Result<Bytes, ServiceError> {
        let read = Request::new(request.body).and_then(|mut read| {
            for (name, value) in request.headers.iter() {
                read.set(name, value)?;
            }
            Ok(read)
        });
        let answer = self.run(read).await.map_err(refused)?;
        Ok(answer.json.into())
    }
}

/// Answers other instances.
pub(super) struct OfInstance(pub(super) Arc<DryRuns>);

#[async_trait]
impl Handler for OfInstance {
    async fn answer(&self, request: ServiceRequest) -> Result<Bytes, ServiceError> {
        let question = Question::read(request).map_err(refused)?;
        self.0.part(question).await.map_err(refused)
    }
}

fn refused(refusal: Refusal) -> ServiceError {
    let code = match refusal {
        Refusal::Invalid { .. } => 400,
        Refusal::Busy => 429,
        Refusal::Late => 504,
        Refusal::Failed => 500,
    };
    ServiceError { code, reason: refusal.to_string() }
}
