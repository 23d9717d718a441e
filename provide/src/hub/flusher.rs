//! Writes the lanes to their riders: at once when little happens, in batches under load.
//!
//! A lane that was not written for [`Flusher::hold`] is written at once. One that was is busy: what
//! comes is held back for that long, so that more can come together, and never longer. While a
//! round is being written, what comes waits for the next one in any case.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    lane::{Due, Lane, Round},
    sender::Sender,
};
use crate::metrics;

/// Writes the lanes of one shard; one thread runs it.
#[derive(Debug)]
pub(super) struct Flusher {
    hold: Duration,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// How many rounds are done.
    rounds: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    now: Vec<Arc<Lane>>,
    /// All are held equally long, so they are in the order in which they become due.
    held: VecDeque<(Instant, Arc<Lane>)>,
}

impl Flusher {
    pub(super) fn new(hold: Duration) -> Arc<Self> {
        Arc::new(Self {
            hold,
            waiting: Mutex::default(),
            wake: Notify::new(),
            rounds: watch::Sender::default(),
        })
    }

    /// These lanes have something to write. Empties the list.
    pub(super) fn enqueue(&self, lanes: &mut Vec<(Arc<Lane>, Due)>) {
        let now = Instant::now();
        let mut waiting = self.lock();
        for (lane, due) in lanes.drain(..) {
            match due {
                Due::Known => {}
                Due::New { since: Some(since) } if now.duration_since(since) < self.hold => {
                    waiting.held.push_back((now + self.hold, lane));
                }
                Due::New { .. } | Due::Full => waiting.now.push(lane),
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Resolves when all that is to be written at once by now has been.
    pub(super) async fn caught_up(&self) {
        let mut rounds = self.rounds.subscribe();
        // The round that goes on may have begun before.
        for _ in 0..2 {
            if self.lock().now.is_empty() {
                return;
            }
            // The sender lives in `self`.
            let _ = rounds.changed().await;
        }
    }

    /// Writes until shutdown, on a thread of its own: system calls are all it does.
    pub(super) async fn run(&self, mut sender: Sender, shutdown: &CancellationToken) {
        let mut lanes = Vec::new();
        loop {
            let next = self.take_due(&mut lanes);
            if lanes.is_empty() {
                let held_until = sleep_until(next.unwrap_or_else(Instant::now).into());
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.wake.notified() => {}
                    () = held_until, if next.is_some() => {}
                }
                continue;
            }
            let rounds: Vec<_> = lanes.drain(..).filter_map(Lane::round).collect();
            metrics::deliveries(sender.send(&rounds));
            rounds.into_iter().for_each(Round::end);
            self.rounds.send_modify(|rounds| *rounds += 1);
        }
    }

    /// Takes out what is due, and tells when the next will be.
    fn take_due(&self, lanes: &mut Vec<Arc<Lane>>) -> Option<Instant> {
        let mut waiting = self.lock();
        mem::swap(lanes, &mut waiting.now);
        let now = Instant::now();
        while let Some((due, _)) = waiting.held.front() {
            if *due > now {
                return Some(*due);
            }
            lanes.extend(waiting.held.pop_front().map(|(_, lane)| lane));
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
