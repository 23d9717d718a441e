//! Which part of a request a client can have.

use std::collections::HashSet;

use schemas::{ClientError, ErrorCode, Subscribe};

use super::request::{invalid, shorten};
use crate::{
    access::Permit,
    hub::{Hub, Interest, Notice, Position, Selector},
};

/// The longest time that updates may be held back, in milliseconds.
const MAX_CONFLATE_MS: u64 = 60_000;

/// How many times as fast as it was the past can be played.
const MAX_SPEED: u32 = 10_000;

/// What a client may have.
pub(crate) struct Limits {
    pub(crate) permit: Permit,
    /// How many symbols and wildcards.
    pub(crate) max_symbols: usize,
}

impl Limits {
    /// The selectors of a request that a client can have beside what it has. The others are
    /// answered with errors, each for itself, and spoil nothing.
    pub(crate) fn select(
        &self,
        hub: &Hub,
        current: &Interest,
        request: &Subscribe,
    ) -> (Vec<Selector>, Vec<ClientError>) {
        let mut asked = HashSet::new();
        let (mut selectors, mut errors) = (Vec::new(), Vec::new());
        let mut too_many = Vec::new();
        let mut room = self.max_symbols.saturating_sub(current.len());
        for text in &request.symbols {
            if !asked.insert(text) {
                continue;
            }
            match self.selector(hub, text) {
                Err(code) => errors.push(refusal(code, text, request.id.clone())),
                Ok(selector) if current.contains(&selector) => selectors.push(selector),
                Ok(selector) if room > 0 => {
                    room -= 1;
                    selectors.push(selector);
                }
                Ok(_) => too_many.push(text.clone()),
            }
        }
        if !too_many.is_empty() {
            errors.push(ClientError {
                message: format!("A connection may have {} symbols", self.max_symbols),
                code: ErrorCode::TooManySymbols,
                id: request.id.clone(),
                symbols: too_many,
            });
        }
        (selectors, errors)
    }

    /// One entry of a request, or the code of what is wrong with it. What is not allowed is not
    /// told to be there or not.
    fn selector(&self, hub: &Hub, text: &str) -> Result<Selector, ErrorCode> {
        let selector = Selector::parse(text).ok_or(ErrorCode::InvalidSymbol)?;
        if !self.permit.allows(&selector) {
            return Err(ErrorCode::Forbidden);
        }
        if !hub.knows(&selector) {
            return Err(ErrorCode::InvalidSymbol);
        }
        Ok(selector)
    }
}

fn refusal(code: ErrorCode, text: &str, id: Option<String>) -> ClientError {
    let symbol = shorten(text, schemas::MAX_SYMBOL_BYTES);
    let message = match code {
        ErrorCode::Forbidden => format!("Not allowed by the session token: {symbol}"),
        _ => format!("Invalid stock symbol: {symbol}"),
    };
    ClientError { message, code, id, symbols: vec![symbol] }
}

/// Where a `subscribe` wants to start; `None` is now.
pub(crate) fn start(request: &Subscribe) -> Result<Option<Position>, ClientError> {
    let refuse = |message: String| Err(invalid(message, request.id.clone()));
    if let Some(milliseconds) = request.conflate_ms.filter(|it| *it > MAX_CONFLATE_MS) {
        return refuse(format!("conflate_ms: {milliseconds} is more than {MAX_CONFLATE_MS}"));
    }
    if let Some(speed) = request.speed {
        if !(1..=MAX_SPEED).contains(&speed) {
            return refuse(format!("speed: {speed} is not between 1 and {MAX_SPEED}"));
        }
        if request.from_seq.is_none() && request.from_time.is_none() {
            return refuse("speed: it needs from_time or from_seq".to_owned());
        }
    }
    match (request.from_seq, request.from_time) {
        (Some(_), Some(_)) => refuse("from_seq and from_time: only one of them".to_owned()),
        (Some(sequence), None) => Ok(Some(Position::After(sequence))),
        (None, Some(time)) => Ok(Some(Position::At(time))),
        (None, None) => Ok(None),
    }
}

/// What a client is told about its replay.
pub(crate) fn explain(notice: Notice) -> ClientError {
    match notice {
        Notice::Truncated { first } => ClientError {
            message: format!("History before sequence {first} is no longer kept"),
            code: ErrorCode::HistoryTruncated,
            id: None,
            symbols: Vec::new(),
        },
        Notice::Ahead { last } => invalid(
            format!("from_seq: the newest sequence is {last}; going on live from there"),
            None,
        ),
    }
}
