//! The stored ticks over HTTP: quotes, ticks, candles and symbols. Reads only.

mod cursor;
mod parameters;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use jiff::Timestamp;
use schemas::{
    CandleInterval, Tick,
    http::{Candles, Quotes, Symbols, TickPage},
};
use serde::Deserialize;
use service::Problem;
use tracing::{error, warn};

use crate::store::{StoreError, StoredTick, TickReader};
use parameters::{MAX_LIMIT, Parameters, PathSymbol};

type Reader = State<Arc<dyn TickReader>>;

/// `GET /quotes/{symbol}`, `/quotes?symbols=`, `/ticks/{symbol}`, `/candles/{symbol}` and
/// `/symbols`.
pub(crate) fn router(reader: Arc<dyn TickReader>) -> Router {
    Router::new()
        .route("/quotes", get(quotes))
        .route("/quotes/{symbol}", get(quote))
        .route("/ticks/{symbol}", get(ticks))
        .route("/candles/{symbol}", get(candles))
        .route("/symbols", get(symbols))
        .with_state(reader)
}

/// The newest tick of a symbol.
async fn quote(
    State(reader): Reader,
    PathSymbol(symbol): PathSymbol,
) -> Result<Json<Tick>, Problem> {
    let newest = reader.newest(std::slice::from_ref(&symbol)).await.map_err(problem)?;
    match newest.into_iter().next() {
        Some(stored) => Ok(Json(stored.into_tick())),
        None => Err(Problem::not_found(format!("no tick of {symbol:?} is stored"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotesQuery {
    symbols: Option<String>,
}

/// The newest tick of each of some symbols.
async fn quotes(
    State(reader): Reader,
    Parameters(query): Parameters<QuotesQuery>,
) -> Result<Json<Quotes>, Problem> {
    let asked = parameters::symbols(query.symbols.as_deref())?;
    let newest = reader.newest(&asked).await.map_err(problem)?;
    let quotes: Vec<Tick> = newest.into_iter().map(StoredTick::into_tick).collect();
    // What is known comes in the order asked for, so one pass finds what is not.
    let mut known = quotes.iter().map(|tick| &tick.symbol).peekable();
    let unknown = asked
        .iter()
        .filter(|symbol| known.next_if_eq(symbol).is_none())
        .map(ToString::to_string)
        .collect();
    Ok(Json(Quotes { quotes, unknown }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TicksQuery {
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// A page of the ticks of a symbol with an event time from `from` until before `to`.
async fn ticks(
    State(reader): Reader,
    PathSymbol(symbol): PathSymbol,
    Parameters(query): Parameters<TicksQuery>,
) -> Result<Json<TickPage>, Problem> {
    let from = parameters::time("from", query.from.as_deref())?;
    let to = parameters::time("to", query.to.as_deref())?;
    let span = parameters::span(from, to)?;
    let limit = parameters::limit(query.limit.as_deref())?;
    let after = parameters::cursor(query.cursor.as_deref())?;
    // One more than asked for tells whether there is a next page.
    let mut ticks = reader.ticks(&symbol, span, after, limit + 1).await.map_err(problem)?;
    let has_more = ticks.len() > limit as usize;
    ticks.truncate(limit as usize);
    let last = ticks.last().filter(|_| has_more);
    let next_cursor = last.map(|tick| cursor::write(tick.position()));
    let ticks = ticks.into_iter().map(StoredTick::into_tick).collect();
    Ok(Json(TickPage { ticks, next_cursor }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CandlesQuery {
    interval: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
}

/// The candles of the trades of a symbol from `from` until `to`, each of them whole. Without
/// `from`, those of the last `limit` intervals before `to`; without `to`, until now.
async fn candles(
    State(reader): Reader,
    PathSymbol(symbol): PathSymbol,
    Parameters(query): Parameters<CandlesQuery>,
) -> Result<Json<Candles>, Problem> {
    let interval = parameters::interval(query.interval.as_deref())?;
    let limit = parameters::limit(query.limit.as_deref())?;
    let to = parameters::time("to", query.to.as_deref())?;
    let from = parameters::time("from", query.from.as_deref())?
        .unwrap_or_else(|| back(to.unwrap_or_else(Timestamp::now), interval, limit));
    let span = parameters::span(Some(from), to)?;
    let candles = reader.candles(&symbol, interval, span, limit).await.map_err(problem)?;
    Ok(Json(Candles { candles }))
}

/// A time in the `limit`th candle back from the one that holds the last instant before `to`.
fn back(to: Timestamp, interval: CandleInterval, limit: u32) -> Timestamp {
    let length = interval.duration().as_nanos() as i128;
    let from = to.as_nanosecond() - 1 - length * i128::from(limit - 1);
    Timestamp::from_nanosecond(from).unwrap_or(Timestamp::MIN)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SymbolsQuery {
    query: Option<String>,
    limit: Option<String>,
}

/// The symbols that contain a text; without one, all.
async fn symbols(
    State(reader): Reader,
    Parameters(query): Parameters<SymbolsQuery>,
) -> Result<Json<Symbols>, Problem> {
    let limit =
        query.limit.as_deref().map_or(Ok(MAX_LIMIT), |text| parameters::limit(Some(text)))?;
    let text = query.query.unwrap_or_default();
    if text.contains('\0') {
        return Err(Problem::bad_request("query: holds a NUL character"));
    }
    let symbols = reader.symbols(&text, limit).await.map_err(problem)?;
    Ok(Json(Symbols { symbols }))
}

/// What the caller is told; the reason in full is for the operator.
fn problem(fault: StoreError) -> Problem {
    match fault {
        StoreError::TooManyTrades | StoreError::VolumeTooPrecise => {
            Problem::bad_request(format!("from, to: {fault}"))
        }
        StoreError::Unavailable { .. } => {
            warn!(error = %fault, "a question to the store fails");
            Problem::unavailable("the store cannot be read now: try again later")
        }
        StoreError::Corrupt { .. } | StoreError::Config { .. } => {
            error!(error = %fault, "a question to the store fails");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the store holds what cannot be read")
        }
    }
}
