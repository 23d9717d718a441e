//! The parameters of requests: what they may be, and what is said when they are not.

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use jiff::Timestamp;
use schemas::{CandleInterval, Symbol};
use serde::de::DeserializeOwned;
use service::Problem;

use super::cursor;
use crate::store::{Position, Span};

/// How many rows an answer has where nothing is said.
const DEFAULT_LIMIT: u32 = 100;
/// How many rows an answer can have.
pub(super) const MAX_LIMIT: u32 = 10_000;
/// How many symbols one request for quotes may name.
const MAX_SYMBOLS: usize = 1_000;

/// The symbol in the path.
pub(super) struct PathSymbol(pub(super) Symbol);

impl<S: Send + Sync> FromRequestParts<S> for PathSymbol {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|fault| Problem::bad_request(format!("symbol: {}", fault.body_text())))?;
        symbol("symbol", &text).map(Self)
    }
}

/// The query string; an unknown name in it is an error.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(fault) => Err(Problem::bad_request(fault.body_text())),
        }
    }
}

fn wrong(name: &str, fault: impl std::fmt::Display) -> Problem {
    Problem::bad_request(format!("{name}: {fault}"))
}

fn symbol(name: &str, text: &str) -> Result<Symbol, Problem> {
    Symbol::new(text).map_err(|fault| wrong(name, fault))
}

/// The symbols of a list with commas, each once.
pub(super) fn symbols(text: Option<&str>) -> Result<Vec<Symbol>, Problem> {
    let text = text.ok_or_else(|| wrong("symbols", "is missing: write symbols=AAPL,MSFT"))?;
    let mut symbols = Vec::new();
    for text in text.split(',') {
        let symbol = symbol("symbols", text)?;
        if !symbols.contains(&symbol) {
            symbols.push(symbol);
        }
        if symbols.len() > MAX_SYMBOLS {
            return Err(wrong("symbols", format!("more than {MAX_SYMBOLS} symbols")));
        }
    }
    Ok(symbols)
}

/// `limit`: 1 to 10,000; 100 where it is not given.
pub(super) fn limit(text: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| wrong("limit", format!("{text:?} is not a number from 1 to {MAX_LIMIT}")))
}

/// `interval`: has to be given.
pub(super) fn interval(text: Option<&str>) -> Result<CandleInterval, Problem> {
    text.ok_or_else(|| wrong("interval", "is missing: 1s, 5s, 1m, 5m, 15m, 1h or 1d"))?
        .parse()
        .map_err(|fault| wrong("interval", fault))
}

/// `cursor`: one that an answer gave.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<Position>, Problem> {
    let read = |text| {
        cursor::read(text)
            .ok_or_else(|| wrong("cursor", "is not a next_cursor of an earlier answer"))
    };
    text.map(read).transpose()
}

/// A time as RFC 3339 or as milliseconds since the epoch.
pub(super) fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let parsed = match text.parse::<i64>() {
        Ok(milliseconds) => Timestamp::from_millisecond(milliseconds).ok(),
        Err(_) => text.parse::<Timestamp>().ok(),
    };
    let fault = || {
        wrong(
            name,
            format!(
                "{text:?} is neither a time such as 2024-09-14T12:34:56Z (a + in it is written \
                 %2B) nor milliseconds since 1970"
            ),
        )
    };
    parsed.map(Some).ok_or_else(fault)
}

/// `from` and `to`: `from` must come first.
pub(super) fn span(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Span, Problem> {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => {
            Err(wrong("from", format!("{from} is not before to, which is {to}")))
        }
        _ => Ok(Span::new(from, to)),
    }
}
