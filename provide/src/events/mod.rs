//! `GET /events`: the live prices as Server-Sent Events (WHATWG HTML, section 9.2), for those who
//! cannot use WebSockets. The query is that of `/ws`, the data of an event is its JSON message.
//!
//! The id of an event is the sequence of its tick, and ids only grow: so whoever comes back with
//! `Last-Event-ID`, as browsers do by themselves, gets everything after that, without a hole or a
//! double.

mod event;
mod stream;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Query as UrlQuery, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream::unfold;
use schemas::{ClientError, ErrorCode, Subscribe};
use service::Problem;
use tokio::sync::mpsc;

use crate::{
    hub::Interest,
    websocket::{Limits, Query, Server, start},
};
use stream::Stream;

/// What a client that was disconnected saw last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Proxies of the nginx kind hold answers back unless they are told not to.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /events`.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new().route("/events", get(events)).with_state(server)
}

async fn events(
    State(server): State<Arc<Server>>,
    query: Result<UrlQuery<Query>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let UrlQuery(query) = query.map_err(|fault| Problem::bad_request(fault.body_text()))?;
    let permit = server.access.permit(&headers, query.token())?;
    let request = resumed(query.into_subscribe(), &headers)?;
    if !request.candles.is_empty() {
        return Err(Problem::bad_request("candles: they come over the WebSocket only"));
    }
    let position = start(&request).map_err(|error| Problem::bad_request(error.message))?;
    if !server.hub.is_ready() {
        return Err(Problem::unavailable("the newest prices are not loaded yet"));
    }
    let limits = Limits { permit, max_symbols: server.config.max_symbols };
    let (selectors, errors) = limits.select(&server.hub, &Interest::default(), &request);
    if selectors.is_empty() {
        return Err(nothing(&errors));
    }
    let guard = server.connections.enter(server.config.max_connections)?;

    // One piece: what the client does not take waits in the bounded outbox.
    let (sender, receiver) = mpsc::channel(1);
    let stream = Stream::new(server, selectors, position, &request);
    tokio::spawn(async move {
        stream.run(&errors, request.id, sender).await;
        drop(guard);
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (ACCEL_BUFFERING, "no"),
    ];
    Ok((headers, body(receiver)).into_response())
}

/// `Last-Event-ID` goes before what the address asks for: a browser that comes back sends both.
fn resumed(mut request: Subscribe, headers: &HeaderMap) -> Result<Subscribe, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else {
        return Ok(request);
    };
    let sequence = id.to_str().ok().and_then(|id| id.parse().ok());
    let fault = || Problem::bad_request(format!("Last-Event-ID: {id:?} is not a sequence"));
    request.from_seq = Some(sequence.ok_or_else(fault)?);
    request.from_time = None;
    Ok(request)
}

/// The answer to a request of which nothing can be had.
fn nothing(errors: &[ClientError]) -> Problem {
    match errors.first() {
        None => Problem::bad_request("symbols: name at least one, such as ?symbols=AAPL,BTC-*"),
        Some(error) if error.code == ErrorCode::Forbidden => {
            Problem::new(StatusCode::FORBIDDEN, &error.message)
        }
        Some(error) => Problem::not_found(&error.message),
    }
}

fn body(receiver: mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receiver))
    }))
}
