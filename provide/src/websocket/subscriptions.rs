//! What one connection is subscribed to, and what its requests do to that.
//!
//! - A symbol that a connection has already is not sent again by subscribing to it once more.
//! - `from_seq` and `from_time` deliver a symbol from there on, then live, also where the
//!   connection had it live already; the newest request for a symbol counts.
//! - The replays of a connection run one after the other. A symbol that waits for its replay, or
//!   is in one, is not delivered live meanwhile; all others are.
//! - A replay is complete; conflation begins where the live stream does.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use schemas::{
    CandleInterval, ClientError, ClientMessage, ErrorCode, ServerMessage, Subscribe, Subscribed,
    Unsubscribe,
};
use tokio::time::Instant;

use super::{
    alerts::Alerts,
    candles::{self, Candles},
    conflation::Conflation,
    selection::{Limits, explain, start},
    voice::Voice,
};
use crate::{
    alerts::AlertQueue,
    candles::CandleQueue,
    hub::{
        Fault, Frame, Hub, Interest, Outbox, Position, Progress, Readers, Replay, ReplayId,
        Selector,
    },
    metrics,
};

/// How many replays of one connection may run or wait.
const MAX_REPLAYS: usize = 16;

/// The subscriptions of one connection. They end when this is dropped.
pub(super) struct Subscriptions {
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    voice: Voice,
    limits: Limits,
    candles: Candles,
    alerts: Alerts,
    queue_frames: usize,
    interest: Interest,
    /// Where ticks come that are for this connection alone; `None` while it rides a lane with all
    /// that asked for the same, or asks for nothing.
    private: Option<Box<Private>>,
}

/// What a connection needs that conflates or replays.
struct Private {
    outbox: Arc<Outbox>,
    conflation: Conflation,
    /// The first one runs.
    replays: VecDeque<(ReplayId, Replay)>,
    replays_begun: ReplayId,
}

impl Subscriptions {
    pub(super) fn new(
        hub: Arc<Hub>,
        readers: Arc<Readers>,
        voice: Voice,
        limits: Limits,
        candles: Candles,
        alerts: Alerts,
        queue_frames: usize,
    ) -> Self {
        Self {
            hub,
            readers,
            voice,
            limits,
            candles,
            alerts,
            queue_frames,
            interest: Interest::default(),
            private: None,
        }
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.private.as_ref().is_some_and(|private| !private.replays.is_empty())
    }

    /// Did more come for this connection alone than it takes?
    pub(super) fn has_overflowed(&self) -> bool {
        self.candles.has_overflowed()
            || self.alerts.has_overflowed()
            || self.private.as_ref().is_some_and(|private| private.outbox.overflowed().is_some())
    }

    /// Until when nothing may be taken, because of conflation.
    pub(super) fn pause(&self) -> Option<Instant> {
        self.private.as_ref().and_then(|private| private.conflation.wait())
    }

    /// Where ticks come for this connection alone, if they do.
    pub(super) fn outbox(&self) -> Option<Arc<Outbox>> {
        self.private.as_ref().map(|private| Arc::clone(&private.outbox))
    }

    /// Where candles come, if it follows any.
    pub(super) fn candles(&self) -> Option<Arc<CandleQueue>> {
        self.candles.queue()
    }

    /// Where alerts come, if it follows any.
    pub(super) fn alerts(&self) -> Option<Arc<AlertQueue>> {
        self.alerts.queue()
    }

    /// Writes candles and alerts that wait, at most `count` of each. False where there are none.
    pub(super) fn forward_few(&self, count: usize) -> bool {
        let candles = self.candles.forward(&self.voice, count);
        self.alerts.forward(&self.voice, count) || candles
    }

    /// Does what a client asks for, and answers.
    pub(super) fn handle(&mut self, request: ClientMessage) {
        match request {
            ClientMessage::Subscribe(subscribe) => self.subscribe(subscribe),
            ClientMessage::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe),
        }
    }

    fn subscribe(&mut self, request: Subscribe) {
        let start = match start(&request) {
            Ok(start) => start,
            Err(error) => return self.voice.error(error),
        };
        let replays = self.private.as_ref().map_or(0, |private| private.replays.len());
        if start.is_some() && replays >= MAX_REPLAYS {
            let message = format!("{MAX_REPLAYS} replays of this connection are not done yet");
            return self.voice.error(ClientError {
                message,
                code: ErrorCode::Unavailable,
                id: request.id,
                symbols: request.symbols,
            });
        }
        let (selectors, errors) = self.limits.select(&self.hub, &self.interest, &request);
        errors.into_iter().for_each(|error| self.voice.error(error));
        if let Some(milliseconds) = request.conflate_ms {
            self.conflate(Duration::from_millis(milliseconds));
        }
        if let Some(position) = start.filter(|_| !selectors.is_empty()) {
            self.begin_replay(&selectors, position, request.speed);
        }
        let (intervals, errors) = candles::intervals(&request.candles, request.id.as_ref());
        errors.into_iter().for_each(|error| self.voice.error(error));
        let candles = self.candles.follow(&intervals, &selectors);
        let errors = self.alerts.follow(&request.alerts, request.id.as_ref());
        errors.into_iter().for_each(|error| self.voice.error(error));
        let current = self.interest.clone();
        let fresh: Vec<_> =
            selectors.into_iter().filter(|it| self.interest.insert(it.clone())).collect();
        let answer = self.answer(request.id);
        match &mut self.private {
            None => {
                let pipe = self.voice.pipe();
                self.hub.ride(pipe, &current, &self.interest, &fresh, self.voice.encode(&answer));
            }
            Some(private) => {
                let snapshot = self.hub.subscribe(&private.outbox, &current, &fresh);
                self.voice.message(&answer);
                private.send(&self.voice, &snapshot);
            }
        }
        candles::send(&self.voice, &candles);
    }

    fn unsubscribe(&mut self, request: Unsubscribe) {
        self.alerts.forget(&request.alerts);
        let named: Vec<_> = request.symbols.iter().filter_map(|it| Selector::parse(it)).collect();
        if !request.candles.is_empty() {
            let (intervals, errors) = candles::intervals(&request.candles, request.id.as_ref());
            errors.into_iter().for_each(|error| self.voice.error(error));
            self.candles.forget(&intervals, &named);
            let answer = self.answer(request.id);
            return self.voice.message(&answer);
        }
        self.candles.forget(&CandleInterval::ALL, &named);
        let current = self.interest.clone();
        let selectors: Vec<_> =
            named.into_iter().filter(|selector| self.interest.remove(selector)).collect();
        let answer = self.answer(request.id);
        match &mut self.private {
            None => {
                let pipe = self.voice.pipe();
                self.hub.ride(pipe, &current, &self.interest, &[], self.voice.encode(&answer));
            }
            Some(private) => {
                private.outbox.with_holds(|holds| selectors.iter().for_each(|it| holds.forget(it)));
                self.hub.unsubscribe(&private.outbox, selectors);
                private.outbox.keep(&self.interest);
                private.drop_empty_replays();
                self.voice.message(&answer);
            }
        }
    }

    /// The whole current set.
    fn answer(&self, id: Option<String>) -> ServerMessage {
        ServerMessage::Subscribed(Subscribed {
            symbols: self.interest.names(),
            candles: self.candles.follows(),
            alerts: self.alerts.follows(),
            id,
        })
    }

    /// From now on at most one update per symbol in a time; zero is all of them.
    fn conflate(&mut self, every: Duration) {
        if every.is_zero() && self.private.is_none() {
            return;
        }
        let voice = self.voice.clone();
        let private = self.private();
        // What waited for the other way goes first.
        voice.pipe().send_frames(&private.outbox.conflate(!every.is_zero()));
        private.conflation.set(every);
    }

    /// From now on ticks come for this connection alone.
    fn private(&mut self) -> &mut Private {
        self.private.get_or_insert_with(|| {
            let outbox = Outbox::new(self.queue_frames);
            self.hub.transfer(self.voice.pipe(), &outbox, &self.interest);
            Box::new(Private {
                outbox,
                conflation: Conflation::none(),
                replays: VecDeque::new(),
                replays_begun: 0,
            })
        })
    }

    /// Goes back to a lane when nothing has to come for this connection alone any more.
    pub(super) fn settle(&mut self) {
        let Some(private) = &self.private else { return };
        if private.replays.is_empty()
            && private.conflation.is_none()
            && self.hub.board(self.voice.pipe(), &private.outbox, &self.interest)
        {
            self.private = None;
        }
    }

    fn begin_replay(&mut self, selectors: &[Selector], position: Position, speed: Option<u32>) {
        metrics::replay();
        let (hub, readers) = (Arc::clone(&self.hub), Arc::clone(&self.readers));
        let private = self.private();
        private.replays_begun += 1;
        let id = private.replays_begun;
        private.outbox.hold(id, selectors.iter().cloned().collect());
        private.replays.push_back((id, Replay::new(id, hub, readers, position, speed)));
        private.drop_empty_replays();
    }

    /// Writes live ticks that have waited long enough, at most `count`. False where there are none.
    pub(super) fn forward(&mut self, count: usize) -> bool {
        let Some(private) = &mut self.private else { return false };
        let may = private.conflation.may_take(private.outbox.len());
        let frames = private.outbox.take(may.min(count));
        private.conflation.took(frames.len());
        self.voice.pipe().send_frames(&frames);
        !frames.is_empty()
    }

    /// The next step of the running replay; pending for ever where there is none. Cancel safe.
    pub(super) async fn replay(&mut self) -> Progress {
        match &mut self.private {
            Some(private) => private.replay().await,
            None => std::future::pending().await,
        }
    }

    /// The client does not take what it was brought: its replay leaves its place to others.
    pub(super) fn rest(&mut self) {
        if let Some((_, replay)) =
            self.private.as_mut().and_then(|private| private.replays.front_mut())
        {
            replay.rest();
        }
    }

    /// Hands on what a replay has brought.
    pub(super) fn replayed(&mut self, progress: Progress) {
        let Some(private) = &mut self.private else { return };
        let frames = match progress {
            Progress::Ticks(frames) => frames,
            Progress::Done(frames) => {
                private.replays.pop_front();
                frames
            }
            Progress::Replayed(frames) => return self.voice.pipe().send_replayed(&frames),
            Progress::Notice(notice) => return self.voice.error(explain(notice)),
        };
        private.send(&self.voice, &frames);
    }

    /// The sequence after which a client goes on that has received all we have taken out for it;
    /// `None` where there is none, because it asked for nothing, or for a time not reached yet.
    /// Nothing more is taken out.
    pub(super) fn resume_from(&mut self) -> Option<u64> {
        if self.interest.is_empty() {
            return None;
        }
        let Some(private) = &self.private else {
            return match self.voice.pipe().fault() {
                Some(Fault::TooSlow(through)) => Some(through),
                _ => Some(self.hub.alight(self.voice.pipe())),
            };
        };
        let outbox = &private.outbox;
        let live = outbox.overflowed().unwrap_or_else(|| self.hub.taken_through(outbox));
        private
            .replays
            .iter()
            .map(|(_, replay)| replay.resume_from())
            .try_fold(live, |least, replayed| replayed.map(|replayed| least.min(replayed)))
    }
}

impl Private {
    /// Sends prices past the outbox.
    fn send(&mut self, voice: &Voice, frames: &[Arc<Frame>]) {
        if !frames.is_empty() {
            voice.pipe().send_frames(frames);
            self.conflation.sent();
        }
    }

    async fn replay(&mut self) -> Progress {
        match self.replays.front_mut() {
            Some((_, replay)) => replay.next(&self.outbox).await,
            None => std::future::pending().await,
        }
    }

    /// Those of which nothing is left, because newer requests have taken it.
    fn drop_empty_replays(&mut self) {
        let outbox = &self.outbox;
        self.replays.retain(|(id, _)| outbox.with_holds(|holds| holds.interest(*id).is_some()));
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.hub.alight(self.voice.pipe());
        if let Some(private) = &self.private {
            self.hub.unsubscribe(&private.outbox, self.interest.selectors());
        }
    }
}
