//! Calls to the instances behind the gateway.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, uri::PathAndQuery,
        uri::Scheme,
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use schemas::http::Instance;
use service::Problem;
use tracing::debug;

use crate::{
    balance::{Balance, Balancer, Target},
    metrics,
    registry::Registry,
};

/// How long an instance may take to accept a connection, before another one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Shorter than the 30 seconds that our services keep an idle connection, so that it is us who close
/// it: a request that meets a closing connection is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A request for an instance of a service.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) service: &'static str,
    pub(crate) balance: Balance,
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// No answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpstreamFault {
    /// No instance of the service lives.
    NoInstance(&'static str),
    /// The instance does not accept connections: it never saw the request.
    Unreachable(&'static str),
    /// The connection broke before the answer was complete.
    Broken(&'static str),
    /// The answer took too long.
    TimedOut(&'static str),
}

/// The way to the instances. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstreams {
    registry: Arc<dyn Registry>,
    balancer: Balancer,
    client: Client<HttpConnector, Body>,
    timeout: Duration,
}

impl Upstreams {
    pub(crate) fn new(registry: Arc<dyn Registry>, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT.min(timeout)));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { registry, balancer: Balancer::default(), client, timeout }
    }

    /// How long an instance may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends the call to an instance, and once more to another one where the first cannot have
    /// acted on it: it refused the connection, or the method is idempotent (RFC 9110, 9.2.2).
    pub(crate) async fn call(&self, call: &Call) -> Result<(Response, Target), UpstreamFault> {
        let instances = self.registry.instances(call.service);
        let none = UpstreamFault::NoInstance(call.service);
        let first = self.balancer.choose(instances.clone(), call.balance, None).ok_or(none)?;
        let fault = match self.attempt(call, &first.instance).await {
            Ok(response) => return Ok((response, first)),
            Err(fault) => fault,
        };
        let again = match fault {
            UpstreamFault::Unreachable(_) => true,
            UpstreamFault::Broken(_) => call.method.is_idempotent(),
            UpstreamFault::NoInstance(_) | UpstreamFault::TimedOut(_) => false,
        };
        if !again {
            return Err(fault);
        }
        match self.balancer.choose(instances, call.balance, Some(&first.instance)) {
            Some(second) => Ok((self.attempt(call, &second.instance).await?, second)),
            None => Err(fault),
        }
    }

    async fn attempt(&self, call: &Call, instance: &Instance) -> Result<Response, UpstreamFault> {
        let Some(request) = request(call, instance) else {
            debug!(service = call.service, address = instance.ip_address, "no address to call");
            self.balancer.avoid(instance);
            metrics::upstream_failed(call.service);
            return Err(UpstreamFault::Unreachable(call.service));
        };
        let start = Instant::now();
        let fault = match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => {
                metrics::upstream_answered(call.service, start.elapsed());
                self.balancer.trust(instance);
                return Ok(response.map(Body::new));
            }
            Ok(Err(error)) => {
                debug!(service = call.service, instance = instance.instance, %error, "no answer");
                self.balancer.avoid(instance);
                if error.is_connect() {
                    UpstreamFault::Unreachable(call.service)
                } else {
                    UpstreamFault::Broken(call.service)
                }
            }
            Err(_) => {
                // It may have stalled: one caller has waited for it, the next need not.
                self.balancer.avoid(instance);
                UpstreamFault::TimedOut(call.service)
            }
        };
        metrics::upstream_failed(call.service);
        Err(fault)
    }
}

fn request(call: &Call, instance: &Instance) -> Option<Request<Body>> {
    let (host, port) = (&instance.ip_address, instance.port_number);
    let is_ipv6 = host.contains(':') && !host.starts_with('[');
    let authority = if is_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(call.path.clone())
        .build()
        .ok()?;
    let mut request = Request::new(Body::from(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers.clone();
    Some(request)
}

impl IntoResponse for UpstreamFault {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::NoInstance(service) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("no instance of {service} is running; try again soon"),
            ),
            Self::Unreachable(service) => {
                (StatusCode::BAD_GATEWAY, format!("{service} does not accept connections"))
            }
            Self::Broken(service) => {
                (StatusCode::BAD_GATEWAY, format!("{service} broke off its answer"))
            }
            Self::TimedOut(service) => {
                (StatusCode::GATEWAY_TIMEOUT, format!("{service} did not answer in time"))
            }
        };
        let mut response = Problem::new(status, detail).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
