//! What one connection is subscribed to, and what its requests do to that.
//!
//! - A symbol that a connection has already is not sent again by subscribing to it once more.
//! - `from_seq` and `from_time` deliver a symbol from there on, then live, also where the
//!   connection had it live already; the newest request for a symbol counts.
//! - The replays of a connection run one after the other. A symbol that waits for its replay, or
//!   is in one, is not delivered live meanwhile; all others are.
//! - A replay is complete; conflation begins where the live stream does.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use schemas::{
    ClientError, ClientMessage, ErrorCode, ServerMessage, Subscribe, Subscribed, Unsubscribe,
};

use super::{
    conflation::Conflation,
    outgoing::Outgoing,
    request::{Request, invalid, shorten},
};
use crate::{
    config::WebSocketConfig,
    hub::{
        Frame, Hub, Interest, Notice, Outbox, Position, Progress, Readers, Replay, ReplayId,
        Selector,
    },
    metrics,
};

/// How many replays of one connection may run or wait.
const MAX_REPLAYS: usize = 16;

/// The longest time that updates may be held back, in milliseconds.
const MAX_CONFLATE_MS: u64 = 60_000;

/// The subscriptions of one connection. They end when this is dropped.
pub(super) struct Subscriptions {
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    max_symbols: usize,
    outbox: Arc<Outbox>,
    interest: Interest,
    conflation: Conflation,
    /// The first one runs.
    replays: VecDeque<(ReplayId, Replay)>,
    replays_begun: ReplayId,
}

impl Subscriptions {
    pub(super) fn new(hub: Arc<Hub>, readers: Arc<Readers>, config: &WebSocketConfig) -> Self {
        Self {
            hub,
            readers,
            max_symbols: config.max_symbols,
            outbox: Outbox::new(config.queue_frames),
            interest: Interest::default(),
            conflation: Conflation::none(),
            replays: VecDeque::new(),
            replays_begun: 0,
        }
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(super) fn conflation(&self) -> &Conflation {
        &self.conflation
    }

    pub(super) fn is_replaying(&self) -> bool {
        !self.replays.is_empty()
    }

    /// Does what a client asks for, and answers.
    pub(super) fn handle(&mut self, request: Request, out: &mut Outgoing) {
        let Request { message, candles } = request;
        match message {
            ClientMessage::Subscribe(subscribe) => {
                if candles {
                    out.error(ClientError {
                        message: "Candles are not available over the WebSocket".to_owned(),
                        code: ErrorCode::Unavailable,
                        id: subscribe.id.clone(),
                        symbols: Vec::new(),
                    });
                }
                self.subscribe(subscribe, out);
            }
            ClientMessage::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, out),
        }
    }

    fn subscribe(&mut self, request: Subscribe, out: &mut Outgoing) {
        let start = match start(&request) {
            Ok(start) => start,
            Err(error) => return out.error(error),
        };
        if start.is_some() && self.replays.len() >= MAX_REPLAYS {
            let message = format!("{MAX_REPLAYS} replays of this connection are not done yet");
            return out.error(ClientError {
                message,
                code: ErrorCode::Unavailable,
                id: request.id,
                symbols: request.symbols,
            });
        }
        let selectors = self.valid(&request, out);
        if let Some(milliseconds) = request.conflate_ms {
            // What waited for the other way goes first.
            out.prices(self.outbox.conflate(milliseconds > 0));
            self.conflation.set(Duration::from_millis(milliseconds));
        }
        if let Some(position) = start.filter(|_| !selectors.is_empty()) {
            self.begin_replay(&selectors, position, out);
        }
        let new: Vec<_> =
            selectors.into_iter().filter(|selector| !self.interest.contains(selector)).collect();
        let snapshot = self.hub.subscribe(&self.outbox, &self.interest, &new);
        for selector in new {
            self.interest.insert(selector);
        }
        self.answer(request.id, out);
        if !snapshot.is_empty() {
            out.prices(snapshot);
            self.conflation.sent();
        }
    }

    fn unsubscribe(&mut self, request: Unsubscribe, out: &mut Outgoing) {
        let selectors: Vec<_> = request
            .symbols
            .iter()
            .filter_map(|text| Selector::parse(text))
            .filter(|selector| self.interest.remove(selector))
            .collect();
        self.outbox.with_holds(|holds| selectors.iter().for_each(|it| holds.forget(it)));
        self.hub.unsubscribe(&self.outbox, selectors);
        self.outbox.keep(&self.interest);
        out.retain_prices(|frame| self.interest.matches(&frame.symbol));
        self.drop_empty_replays();
        self.answer(request.id, out);
    }

    /// Answers with the whole current set.
    fn answer(&self, id: Option<String>, out: &mut Outgoing) {
        let symbols = self.interest.names();
        out.message(&ServerMessage::Subscribed(Subscribed { symbols, id }));
    }

    /// The selectors of a request that this connection can have. The others are answered with
    /// errors, each for itself, and spoil nothing.
    fn valid(&self, request: &Subscribe, out: &mut Outgoing) -> Vec<Selector> {
        let mut asked = HashSet::new();
        let mut valid = Vec::new();
        let mut too_many = Vec::new();
        let mut room = self.max_symbols.saturating_sub(self.interest.len());
        for text in &request.symbols {
            if !asked.insert(text) {
                continue;
            }
            let Some(selector) = Selector::parse(text).filter(|it| self.hub.knows(it)) else {
                let symbol = shorten(text, schemas::MAX_SYMBOL_BYTES);
                out.error(ClientError {
                    message: format!("Invalid stock symbol: {symbol}"),
                    code: ErrorCode::InvalidSymbol,
                    id: request.id.clone(),
                    symbols: vec![symbol],
                });
                continue;
            };
            if self.interest.contains(&selector) {
                valid.push(selector);
            } else if room > 0 {
                room -= 1;
                valid.push(selector);
            } else {
                too_many.push(text.clone());
            }
        }
        if !too_many.is_empty() {
            out.error(ClientError {
                message: format!("A connection may have {} symbols", self.max_symbols),
                code: ErrorCode::TooManySymbols,
                id: request.id.clone(),
                symbols: too_many,
            });
        }
        valid
    }

    fn begin_replay(&mut self, selectors: &[Selector], position: Position, out: &mut Outgoing) {
        metrics::replay();
        self.replays_begun += 1;
        let id = self.replays_begun;
        let interest: Interest = selectors.iter().cloned().collect();
        out.retain_prices(|frame| !interest.matches(&frame.symbol));
        self.outbox.hold(id, interest);
        let replay = Replay::new(id, Arc::clone(&self.hub), Arc::clone(&self.readers), position);
        self.replays.push_back((id, replay));
        self.drop_empty_replays();
    }

    /// Those of which nothing is left, because newer requests have taken it.
    fn drop_empty_replays(&mut self) {
        let outbox = &self.outbox;
        self.replays.retain(|(id, _)| outbox.with_holds(|holds| holds.interest(*id).is_some()));
    }

    /// Takes live ticks that have waited long enough, at most `count`.
    pub(super) fn take_live(&mut self, count: usize) -> Vec<Arc<Frame>> {
        let may = self.conflation.may_take(self.outbox.len());
        let frames = self.outbox.take(may.min(count));
        self.conflation.took(frames.len());
        frames
    }

    /// The next step of the running replay; pending for ever where there is none. Cancel safe.
    pub(super) async fn replay(&mut self) -> Progress {
        match self.replays.front_mut() {
            Some((_, replay)) => replay.next(&self.outbox).await,
            None => std::future::pending().await,
        }
    }

    /// The client does not take what it was brought: its replay leaves its place to others.
    pub(super) fn rest(&mut self) {
        if let Some((_, replay)) = self.replays.front_mut() {
            replay.rest();
        }
    }

    /// Hands on what a replay has brought.
    pub(super) fn replayed(&mut self, progress: Progress, out: &mut Outgoing) {
        let frames = match progress {
            Progress::Ticks(frames) => frames,
            Progress::Done(frames) => {
                self.replays.pop_front();
                frames
            }
            Progress::Notice(notice) => return out.error(explain(notice)),
        };
        out.prices(frames);
        self.conflation.sent();
    }

    /// The sequence after which a client goes on that has received all we have taken out for it;
    /// `None` where there is none, because it asked for nothing, or for a time not reached yet.
    pub(super) fn resume_from(&self) -> Option<u64> {
        if self.interest.is_empty() {
            return None;
        }
        let live = self.outbox.overflowed().unwrap_or_else(|| self.hub.taken_through(&self.outbox));
        self.replays
            .iter()
            .map(|(_, replay)| replay.resume_from())
            .try_fold(live, |least, replayed| replayed.map(|replayed| least.min(replayed)))
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.outbox, self.interest.selectors());
    }
}

/// Where a `subscribe` wants to start; `None` is now.
fn start(request: &Subscribe) -> Result<Option<Position>, ClientError> {
    let refuse = |message: String| Err(invalid(message, request.id.clone()));
    if let Some(milliseconds) = request.conflate_ms.filter(|it| *it > MAX_CONFLATE_MS) {
        return refuse(format!("conflate_ms: {milliseconds} is more than {MAX_CONFLATE_MS}"));
    }
    match (request.from_seq, request.from_time) {
        (Some(_), Some(_)) => refuse("from_seq and from_time: only one of them".to_owned()),
        (Some(sequence), None) => Ok(Some(Position::After(sequence))),
        (None, Some(time)) => Ok(Some(Position::At(time))),
        (None, None) => Ok(None),
    }
}

fn explain(notice: Notice) -> ClientError {
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
