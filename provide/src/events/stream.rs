//! What one client receives: a task that writes events and has nothing to hear.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use schemas::{ClientError, CloseReason, Closing, ServerMessage, Subscribe, Subscribed};
use service::Backoff;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use super::event::Events;
use crate::{
    hub::{Frame, Interest, Outbox, Position, Progress, Replay, ReplayId, Selector},
    metrics,
    websocket::{Conflation, Server, explain},
};

/// How many live updates are taken out of the outbox at a time.
const BATCH: usize = 128;

/// While more bytes than these wait to be written, its replay does not go on.
const ROOM: usize = 32 * 1024;

/// How long a client may take to receive the farewell of a planned close.
const FAREWELL: Duration = Duration::from_secs(5);

/// Its only replay.
const REPLAY: ReplayId = 1;

pub(super) struct Stream {
    server: Arc<Server>,
    broken: watch::Receiver<Option<u64>>,
    interest: Interest,
    outbox: Arc<Outbox>,
    conflation: Conflation,
    replay: Option<Replay>,
    events: Events,
    /// The newest prices at the beginning.
    snapshot: Vec<Arc<Frame>>,
}

/// How a stream ends.
enum End {
    /// The client has gone.
    Gone,
    /// We close it; with the sequence that the client has to come back with, where that is another
    /// one than its last.
    Planned(CloseReason, Option<u64>),
}

impl Stream {
    /// Subscribes: from now on nothing is missed.
    pub(super) fn new(
        server: Arc<Server>,
        selectors: Vec<Selector>,
        position: Option<Position>,
        request: &Subscribe,
    ) -> Self {
        // Before the subscription, so that it does not outlive the stream it is of.
        let broken = server.hub.broken();
        let interest: Interest = selectors.iter().cloned().collect();
        let outbox = Outbox::new(server.config.queue_frames);
        let mut conflation = Conflation::none();
        if let Some(milliseconds) = request.conflate_ms {
            outbox.conflate(milliseconds > 0);
            conflation.set(Duration::from_millis(milliseconds));
        }
        let replay = position.map(|position| {
            metrics::replay();
            outbox.hold(REPLAY, interest.clone());
            let (hub, readers) = (Arc::clone(&server.hub), Arc::clone(&server.readers));
            Replay::new(REPLAY, hub, readers, position, request.speed)
        });
        let snapshot = server.hub.subscribe(&outbox, &Interest::default(), &selectors);
        let events = Events::default();
        Self { server, broken, interest, outbox, conflation, replay, events, snapshot }
    }

    /// Writes until the client goes, is too slow, or we stop.
    pub(super) async fn run(
        mut self,
        errors: &[ClientError],
        id: Option<String>,
        out: mpsc::Sender<Bytes>,
    ) {
        for error in errors {
            self.error(error.clone());
        }
        let symbols = self.interest.names();
        self.events.message(&ServerMessage::Subscribed(Subscribed {
            symbols,
            candles: Default::default(),
            alerts: Vec::new(),
            id,
        }));
        let snapshot = std::mem::take(&mut self.snapshot);
        self.send(snapshot);
        if let End::Planned(reason, at) = self.serve(&out).await {
            if reason == CloseReason::TooSlow {
                metrics::slow_client();
            }
            self.farewell(reason, at);
            let _ = timeout(FAREWELL, out.send(self.events.take())).await;
        }
    }

    async fn serve(&mut self, out: &mpsc::Sender<Bytes>) -> End {
        let shutdown = self.server.shutdown.clone();
        let period = self.server.config.heartbeat();
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outbox = Arc::clone(&self.outbox);
        loop {
            if outbox.overflowed().is_some() {
                return End::Planned(CloseReason::TooSlow, None);
            }
            if self.events.is_empty() {
                self.take_live();
            }
            let (is_idle, has_room) = (self.events.is_empty(), self.events.len() <= ROOM);
            let pause = self.conflation.wait();
            tokio::select! {
                () = shutdown.cancelled() => return End::Planned(CloseReason::Shutdown, None),
                _ = self.broken.changed() => {
                    let at = self.broken.borrow().unwrap_or_default();
                    return End::Planned(CloseReason::StreamBreak, Some(at));
                }
                place = out.reserve(), if !is_idle => match place {
                    Ok(place) => place.send(self.events.take()),
                    Err(_) => return End::Gone,
                },
                () = out.closed() => return End::Gone,
                () = outbox.woken() => {}
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
                progress = next(&mut self.replay, &outbox), if has_room => self.replayed(progress),
                _ = heartbeat.tick() => {
                    if let Some(replay) = self.replay.as_mut().filter(|_| !has_room) {
                        // Others may use what this one cannot.
                        replay.rest();
                    }
                    if is_idle {
                        self.events.comment("heartbeat");
                    }
                }
            }
        }
    }

    /// Live ticks that have waited long enough. Conflated ones are taken all at once: what comes
    /// later is newer than each of them.
    fn take_live(&mut self) {
        let may = self.conflation.may_take(self.outbox.len());
        if may > 0 {
            let most = if self.conflation.is_none() { BATCH } else { usize::MAX };
            let frames = self.outbox.take(most);
            self.conflation.took(frames.len());
            self.write(frames);
        }
    }

    fn replayed(&mut self, progress: Progress) {
        match progress {
            Progress::Ticks(frames) => self.send(frames),
            Progress::Done(frames) => {
                self.replay = None;
                self.send(frames);
            }
            Progress::Replayed(frames) => {
                frames.iter().for_each(|frame| self.events.replayed(frame));
                metrics::deliveries(frames.len() as u64);
            }
            Progress::Notice(notice) => self.error(explain(notice)),
        }
    }

    fn error(&mut self, error: ClientError) {
        metrics::client_error(error.code);
        self.events.message(&ServerMessage::Error(error));
    }

    /// Prices past the outbox.
    fn send(&mut self, frames: Vec<Arc<Frame>>) {
        if !frames.is_empty() {
            self.write(frames);
            self.conflation.sent();
        }
    }

    /// In the order of the stream, so that the last id tells all that was received.
    fn write(&mut self, mut frames: Vec<Arc<Frame>>) {
        frames.sort_by_key(|frame| frame.sequence);
        frames.iter().for_each(|frame| self.events.price(frame));
        metrics::deliveries(frames.len() as u64);
    }

    /// Why we close and when to come back. What the client comes back with is its last id, unless
    /// the sequences begin anew.
    fn farewell(&mut self, reason: CloseReason, at: Option<u64>) {
        // Not all at once.
        let retry = Backoff::new(Duration::from_secs(2), Duration::from_secs(2)).next_delay();
        let retry_after_ms = 100 + u64::try_from(retry.as_millis()).unwrap_or_default();
        if let Some(at) = at {
            self.events.id(at);
        }
        self.events.retry(retry_after_ms);
        let closing = Closing { reason, retry_after_ms, resume_from: at };
        self.events.message(&ServerMessage::Closing(closing));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.server.hub.unsubscribe(&self.outbox, self.interest.selectors());
    }
}

/// The next step of a replay; pending for ever where there is none. Cancel safe.
async fn next(replay: &mut Option<Replay>, outbox: &Outbox) -> Progress {
    match replay {
        Some(replay) => replay.next(outbox).await,
        None => std::future::pending().await,
    }
}
