//! `/ws`: the WebSocket protocol of section 2 of the contract.

mod alerts;
mod allowance;
mod candles;
mod conflation;
mod connection;
mod connections;
mod handshake;
mod protocol;
mod request;
mod selection;
mod subscriptions;
#[cfg(test)]
pub(crate) mod tests;
mod voice;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query as UrlQuery, Request, State, rejection::QueryRejection},
    response::Response,
    routing::any,
};
use service::Problem;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    access::Access,
    alerts::AlertHub,
    candles::CandleHub,
    config::WebSocketConfig,
    hub::{Hub, Readers},
};
use connection::Connection;
use handshake::Handshake;

pub(crate) use conflation::Conflation;
pub(crate) use connections::Connections;
pub(crate) use request::Query;
pub(crate) use selection::{Limits, explain, start};

/// What all connections share.
pub(crate) struct Server {
    pub(crate) hub: Arc<Hub>,
    pub(crate) candles: Arc<CandleHub>,
    pub(crate) alerts: Arc<AlertHub>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) access: Arc<Access>,
    pub(crate) config: WebSocketConfig,
    pub(crate) connections: Connections,
    pub(crate) shutdown: CancellationToken,
}

/// `GET /ws`.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new().route("/ws", any(upgrade)).with_state(server)
}

async fn upgrade(
    State(server): State<Arc<Server>>,
    query: Result<UrlQuery<Query>, QueryRejection>,
    mut request: Request,
) -> Result<Response, Problem> {
    let UrlQuery(query) = query.map_err(|fault| Problem::bad_request(fault.body_text()))?;
    let permit = server.access.permit(request.headers(), query.token())?;
    let handshake = Handshake::of(&mut request)?;
    if !server.hub.is_ready() {
        return Err(Problem::unavailable("the newest prices are not loaded yet"));
    }
    let guard = server.connections.enter(server.config.max_connections)?;
    let (response, switching) = handshake.accept(permit);
    tokio::spawn(async move {
        match switching.socket().await {
            Some((socket, read, terms)) => {
                Connection::new(server, socket, terms).run(query.into_request(), read).await;
            }
            None => debug!("a client went before its connection was switched"),
        }
        drop(guard);
    });
    Ok(response)
}
