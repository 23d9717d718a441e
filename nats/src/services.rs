//! The services API (ADR-32): `nats service list`, `$SRV.PING`, `$SRV.INFO`, `$SRV.STATS`, and
//! endpoints that answer requests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{
    RequestErrorKind,
    service::{self, Service, ServiceExt, endpoint::Endpoint as Requests, error},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use schemas::http::Instance;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::debug;

use crate::{BrokerError, Headers, Nats};

/// How an answer says that there is none, and why (ADR-32).
const ERROR: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// A subject at which a service answers.
pub struct Endpoint {
    /// Its name in `nats service info`.
    pub name: &'static str,
    /// The subject of its requests. Of all instances of the service one gets each.
    pub subject: String,
    /// What it is for.
    pub description: &'static str,
    /// What answers.
    pub handler: Arc<dyn Handler>,
}

/// What answers the requests to an endpoint. All that come are given to it at once: it has to say
/// how many are too many.
#[async_trait]
pub trait Handler: Send + Sync {
    /// The answer to a request.
    async fn answer(&self, request: ServiceRequest) -> Result<Bytes, ServiceError>;
}

/// A request to an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceRequest {
    /// Its headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

/// An endpoint's answer that it has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct ServiceError {
    /// As the status codes of HTTP.
    pub code: u16,
    /// In words.
    pub reason: String,
}

/// A request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No instance of the service runs.
    #[error("nobody answers at {0}")]
    Nobody(String),
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] ServiceError),
    /// It is lost, or takes too long.
    #[error(transparent)]
    Lost(#[from] BrokerError),
}

/// An instance that answers `$SRV.*` and its endpoints until it is closed.
pub struct Announcement {
    service: Service,
    requests: TaskTracker,
    _stop: DropGuard,
}

/// Announces an instance in the services API, its address in the metadata.
pub async fn announce(
    nats: &Nats,
    instance: &Instance,
    endpoints: Vec<Endpoint>,
) -> Result<Announcement, BrokerError> {
    let metadata = HashMap::from([
        ("instance".to_owned(), instance.instance.clone()),
        ("address".to_owned(), format!("{}:{}", instance.ip_address, instance.port_number)),
        ("protocol".to_owned(), instance.protocol.clone()),
    ]);
    let service = nats
        .client
        .service_builder()
        .metadata(metadata)
        .start(&instance.service, &instance.version)
        .await
        .map_err(unreachable)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    for Endpoint { name, subject, description, handler } in endpoints {
        let description = HashMap::from([("description".to_owned(), description.to_owned())]);
        let endpoint = service.endpoint_builder().name(name).metadata(description);
        let requests = endpoint.add(subject).await.map_err(unreachable)?;
        tasks.spawn(answer(requests, handler, tasks.clone(), stop.clone()));
    }
    Ok(Announcement { service, requests: tasks, _stop: stop.drop_guard() })
}

/// Hands over what comes until told to stop.
async fn answer(
    mut requests: Requests,
    handler: Arc<dyn Handler>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while let Some(Some(request)) = stop.run_until_cancelled(requests.next()).await {
        let handler = Arc::clone(&handler);
        tasks.spawn(async move {
            let answer = handler.answer(ServiceRequest::of(&request)).await;
            let answer = answer.map_err(|ServiceError { code, reason }| {
                // A header is one line.
                let status = reason.replace(|c: char| c.is_control(), " ");
                error::Error { status, code: code.into() }
            });
            if let Err(fault) = request.respond(answer).await {
                debug!(%fault, "an answer could not be sent");
                let status = format!("the answer cannot be sent: {fault}");
                let _ = request.respond(Err(error::Error { status, code: 500 })).await;
            }
        });
    }
}

impl ServiceRequest {
    fn of(request: &service::Request) -> Self {
        let headers = Headers::new(request.message.headers.clone());
        Self { headers, body: request.message.payload.clone() }
    }
}

impl Announcement {
    /// Stops answering; what was asked before is answered.
    pub async fn close(self) {
        let Self { service, requests, _stop: stop } = self;
        // An error here means that the connection is gone, and with it the announcement.
        let _ = service.stop().await;
        drop(stop);
        requests.close();
        requests.wait().await;
    }
}

impl Nats {
    /// Asks whichever instance answers at a subject.
    pub async fn request(
        &self,
        subject: &str,
        request: ServiceRequest,
        patience: Duration,
    ) -> Result<Bytes, RequestError> {
        let ServiceRequest { headers, body } = request;
        let sent = async_nats::Request::new().payload(body).timeout(Some(patience));
        let sent = sent.headers(headers.into_map());
        let answer = self.client.send_request(subject.to_owned(), sent).await;
        let answer = answer.map_err(|fault| match fault.kind() {
            RequestErrorKind::NoResponders => RequestError::Nobody(subject.to_owned()),
            _ => RequestError::Lost(unreachable(fault)),
        })?;
        let said = |name| Some(answer.headers.as_ref()?.get(name)?.as_str().to_owned());
        match said(ERROR_CODE) {
            None => Ok(answer.payload),
            Some(code) => {
                let reason = said(ERROR).unwrap_or_default();
                let code = code.parse().unwrap_or_default();
                Err(ServiceError { code, reason }.into())
            }
        }
    }
}

fn unreachable(fault: impl ToString) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}
