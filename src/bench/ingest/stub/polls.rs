//! The polled interface: a quote for each request, each with another price.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Stub, lock};
use crate::bench::{
    ingest::{lateness, provider, verdict::Sent},
    statistics::Quantiles,
};

/// When each symbol was asked for.
pub(super) struct Polls(Vec<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    /// Since the beginning, and the last time before it.
    at: Vec<Instant>,
    count: u64,
}

impl Polls {
    pub(super) fn new(symbols: usize) -> Self {
        Self((0..symbols).map(|_| Mutex::default()).collect())
    }

    /// A symbol, by its place, is asked for now, for how manieth time; nothing where there is none.
    fn ask(&self, place: usize) -> Option<u64> {
        let mut asked = lock(self.0.get(place)?);
        asked.at.push(Instant::now());
        asked.count += 1;
        Some(asked.count)
    }

    pub(super) fn are_all_asked(&self) -> bool {
        self.0.iter().all(|asked| lock(asked).count > 0)
    }

    /// From now on it matters.
    pub(super) fn begin(&self) {
        for asked in &self.0 {
            let mut asked = lock(asked);
            asked.at = asked.at.pop().into_iter().collect();
        }
    }

    /// How many polls there were since the beginning, and how late they were.
    pub(super) fn lateness(&self, interval: Duration) -> (usize, Quantiles) {
        let (end, mut polls, mut late) = (Instant::now(), 0, Vec::new());
        for asked in &self.0 {
            let asked = lock(asked);
            polls += asked.at.len().saturating_sub(1);
            late.extend(lateness::of(&asked.at, interval, end));
        }
        (polls, Quantiles::of(&mut late))
    }
}

#[derive(Deserialize)]
pub(super) struct Asking {
    symbol: String,
}

pub(super) async fn quote(State(stub): State<Arc<Stub>>, Query(asking): Query<Asking>) -> Response {
    let place = asking.symbol.strip_prefix('S').and_then(|place| place.parse().ok());
    let Some(count) = place.and_then(|place| stub.polls.ask(place)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    sleep(Duration::from_millis(stub.load.answer_ms)).await;
    let body = provider::quote(count, Timestamp::now());
    if !stub.note(Sent::now("finnhub", &asking.symbol, &body, false)) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
