//! The door itself: who may come in, and where each request goes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{self, Body},
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, on},
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use service::Problem;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    cache::Cache,
    forwarding::{Sender, strip_hop_by_hop, toward_upstream},
    limit::{self, Limiter, Place, Places},
    metrics, page,
    registry::Registry,
    routes::{Kind, ROUTES, Route},
    services,
    tunnel::{self, Ends, Tunnels},
    upstream::{Call, UpstreamFault, Upstreams},
};

/// The largest request body, in bytes.
const MAX_REQUEST_BODY: usize = 1024 * 1024;

/// Everything that answers a request. It has no state of its own that matters: any number of
/// gateways can run.
pub(crate) struct Door {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) tunnels: Tunnels,
    places: Places,
    upstreams: Upstreams,
    cache: Option<Cache>,
    trusted_proxies: Vec<IpAddr>,
}

impl Door {
    pub(crate) fn new(
        config: &Config,
        registry: Arc<dyn Registry>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let timeout = Duration::from_millis(config.upstream_timeout_ms);
        Arc::new(Self {
            upstreams: Upstreams::new(Arc::clone(&registry), timeout),
            registry,
            limiter: Limiter::new(config),
            tunnels: Tunnels::new(shutdown),
            places: Places::new(config.connections_per_client),
            cache: Cache::new(&config.cache, timeout),
            trusted_proxies: config.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
        })
    }

    /// All that the gateway answers, beside health and metrics.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        let mut router = Router::new()
            .route("/", get(page::index))
            .route("/page.js", get(page::script))
            .route("/page.css", get(page::style))
            .route("/icon.svg", get(page::icon))
            .route("/services", get(services::all))
            .route("/services/{service}", get(services::one).post(services::register))
            .route("/services/{service}/{instance}", delete(services::remove));
        for route in &ROUTES {
            let handler = move |State(door): State<Arc<Self>>, request: Request| async move {
                door.forward(route, request).await
            };
            router = router.route(route.pattern, on(route.kind.methods(), handler));
        }
        router
            .fallback(unknown)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(middleware::from_fn_with_state(Arc::clone(&self), admit))
            .layer(middleware::from_fn(count))
            .with_state(self)
    }

    async fn forward(&self, route: &Route, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let Some(sender) = parts.extensions.get::<Sender>().copied() else {
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no sender").into_response();
        };
        let mut call = Call {
            service: route.service,
            balance: route.kind.balance(),
            method: parts.method.clone(),
            path: path_and_query(&parts.uri),
            headers: toward_upstream(&parts.headers, sender),
            body: Bytes::new(),
        };
        if route.kind == Kind::Tunnel
            && wants_websocket(&parts.method, &parts.headers)
            && let Some(client) = parts.extensions.remove::<OnUpgrade>()
        {
            let Some(place) = self.places.take(sender.client) else { return limit::no_place() };
            let tunnel = self.tunnel(call, client, place).await;
            return tunnel.unwrap_or_else(IntoResponse::into_response);
        }
        if route.kind == Kind::Stream {
            let Some(place) = self.places.take(sender.client) else { return limit::no_place() };
            return self.stream(call, place).await.unwrap_or_else(IntoResponse::into_response);
        }
        call.body = match self.read(&parts.headers, body).await {
            Ok(body) => body,
            Err(problem) => return problem.into_response(),
        };
        self.answer(route, call).await.unwrap_or_else(IntoResponse::into_response)
    }

    async fn answer(&self, route: &Route, mut call: Call) -> Result<Response, UpstreamFault> {
        let key = Cache::key(&call).filter(|_| route.kind == Kind::Shared);
        let (Some(cache), Some(key)) = (&self.cache, key) else {
            return self.ask(call).await;
        };
        // A shared answer is one that everybody can read.
        call.headers.remove(header::ACCEPT_ENCODING);
        cache.answer(key, route.service, || self.ask(call.clone())).await
    }

    async fn ask(&self, call: Call) -> Result<Response, UpstreamFault> {
        let (mut response, _target) = self.upstreams.call(&call).await?;
        strip_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// An answer without an end, for which the instance counts as loaded until it ends.
    async fn stream(&self, call: Call, place: Place) -> Result<Response, UpstreamFault> {
        let (mut response, target) = self.upstreams.call(&call).await?;
        strip_hop_by_hop(response.headers_mut());
        Ok(response.map(|body| self.tunnels.until_shutdown(body, (target, place))))
    }

    /// The whole body of a request.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        let too_large = || {
            let detail = format!("the body must be whole and at most {MAX_REQUEST_BODY} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if announced.and_then(|text| text.parse::<u64>().ok()) > Some(MAX_REQUEST_BODY as u64) {
            return Err(too_large());
        }
        let read = body::to_bytes(body, MAX_REQUEST_BODY);
        match tokio::time::timeout(self.upstreams.timeout(), read).await {
            Ok(read) => read.map_err(|_| too_large()),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        }
    }

    async fn tunnel(
        &self,
        mut call: Call,
        client: OnUpgrade,
        place: Place,
    ) -> Result<Response, UpstreamFault> {
        call.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        call.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let (mut response, target) = self.upstreams.call(&call).await?;
        strip_hop_by_hop(response.headers_mut());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let instance = hyper::upgrade::on(&mut response);
        let farewell = tunnel::farewell(response.headers().get(header::SEC_WEBSOCKET_PROTOCOL));
        self.tunnels.open(Ends { client, instance, target, place, farewell });
        let mut switched = StatusCode::SWITCHING_PROTOCOLS.into_response();
        *switched.headers_mut() = response.headers().clone();
        let headers = switched.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Ok(switched)
    }
}

/// Lets a request in, unless its client makes too many.
async fn admit(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
    let sender = Sender::of(peer, request.headers(), &door.trusted_proxies);
    if let Some(Err(wait)) = door.limiter.as_ref().map(|limiter| limiter.take(sender.client)) {
        return limit::refusal(wait);
    }
    request.extensions_mut().insert(sender);
    next.run(request).await
}

async fn count(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    metrics::answered(path.as_ref().map_or("unknown", MatchedPath::as_str), response.status());
    response
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not answer {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn wants_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    *method == Method::GET && upgrade.is_some_and(|name| name.eq_ignore_ascii_case("websocket"))
}
