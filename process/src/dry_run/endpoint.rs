//! Dry runs by a request to NATS, at an endpoint of the service `lizards-process`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use nats::{Endpoint, Handler, ServiceError, ServiceRequest};
use schemas::subject;

use super::{DryRuns, Refusal, request::Request};

/// Answers at the subject `lizards.process.dry_run`.
pub(crate) fn endpoint(runs: Arc<DryRuns>) -> Endpoint {
    Endpoint {
        name: "dry_run",
        subject: subject::DRY_RUN,
        description: "What would this payload become? Nothing is published, stored or remembered.",
        handler: runs,
    }
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
        let answer = self.run(read).await.map_err(|refusal| ServiceError {
            code: match refusal {
                Refusal::Invalid { .. } => 400,
                Refusal::Busy => 429,
                Refusal::Late => 504,
                Refusal::Failed => 500,
            },
            reason: refusal.to_string(),
        });
        answer.map(|answer| answer.json.into())
    }
}
