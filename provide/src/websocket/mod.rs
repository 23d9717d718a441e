//! `/ws`: the WebSocket protocol of section 2 of the contract.

mod conflation;
mod connection;
mod connections;
mod outgoing;
mod request;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        Query as UrlQuery, State, WebSocketUpgrade, rejection::QueryRejection,
        ws::rejection::WebSocketUpgradeRejection,
    },
    response::Response,
    routing::any,
};
use service::Problem;
use tokio_util::sync::CancellationToken;

use crate::{
    config::WebSocketConfig,
    hub::{Hub, Readers},
};
use connection::Connection;
use request::Query;

pub(crate) use connections::Connections;

/// Buffers of one connection, in bytes. Small, because there are many connections: requests are
/// short, and what does not fit the write buffer goes to the socket at once.
const READ_BUFFER: usize = 4 * 1024;
const WRITE_BUFFER: usize = 32 * 1024;

/// What all connections share.
pub(crate) struct Server {
    pub(crate) hub: Arc<Hub>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) config: WebSocketConfig,
    pub(crate) connections: Connections,
    pub(crate) shutdown: CancellationToken,
}

/// `GET /ws`.
pub(crate) fn router(server: Server) -> Router {
    Router::new().route("/ws", any(upgrade)).with_state(Arc::new(server))
}

async fn upgrade(
    State(server): State<Arc<Server>>,
    query: Result<UrlQuery<Query>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let UrlQuery(query) = query.map_err(|fault| Problem::bad_request(fault.body_text()))?;
    let upgrade = upgrade.map_err(|fault| Problem::new(fault.status(), fault.body_text()))?;
    if !server.hub.is_ready() {
        return Err(Problem::unavailable("the newest prices are not loaded yet"));
    }
    let connection = server.connections.enter();
    let longest = server.config.max_message_bytes;
    Ok(upgrade
        .max_message_size(longest)
        .max_frame_size(longest)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .on_upgrade(async move |socket| {
            Connection::new(server, socket).run(query.into_request()).await;
            drop(connection);
        }))
}
