//! Writes the lanes to their riders: at once when little happens, in batches under load.
//!
//! A lane that was quiet is written at once. One that is busy, or whose ticks have come in bursts,
//! holds what comes for [`Flusher::hold`], so that more can come together, and never longer. While a
//! round is being written, what comes waits for the next one in any case.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::Counter;
use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    lane::{Due, Lane, Round},
    sender::Sender,
};
use crate::metrics::deliveries_counter;

/// Up to so many connections are written to by whoever publishes: to wake a thread for them costs
/// more than it saves. A flusher is filled so far before the next one gets any.
pub(super) const FEW: usize = 256;

/// Writes the lanes of one shard.
#[derive(Debug)]
pub(super) struct Flusher {
    hold: Duration,
    waiting: Mutex<Waiting>,
    sender: Mutex<Sender>,
    wake: Notify,
    connections: AtomicUsize,
    /// How many rounds are done.
    rounds: watch::Sender<u64>,
    delivered: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    now: Vec<Arc<Lane>>,
    /// All are held equally long, so they are in the order in which they become due.
    held: VecDeque<(Instant, Arc<Lane>)>,
}

/// A connection's place with a flusher, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Which flusher it is.
    pub(super) shard: usize,
    flusher: Arc<Flusher>,
}

impl Flusher {
    pub(super) fn new(hold: Duration, use_io_uring: bool) -> Arc<Self> {
        Arc::new(Self {
            hold,
            waiting: Mutex::default(),
            sender: Mutex::new(Sender::new(use_io_uring)),
            wake: Notify::new(),
            connections: AtomicUsize::new(0),
            rounds: watch::Sender::default(),
            delivered: deliveries_counter(),
        })
    }

    /// How many connections it writes to.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn place(self: &Arc<Self>, shard: usize) -> Place {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Place { shard, flusher: Arc::clone(self) }
    }

    /// These lanes have something to write. Empties the list.
    pub(super) fn enqueue(&self, lanes: &mut Vec<(Arc<Lane>, Due)>) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let (is_timed, mut is_due) = (!waiting.held.is_empty(), false);
        for (lane, due) in lanes.drain(..) {
            match due {
                Due::Known => {}
                Due::New { quiet_since, expects_more }
                    if expects_more
                        || quiet_since.is_some_and(|it| now.duration_since(it) < self.hold) =>
                {
                    waiting.held.push_back((now + self.hold, lane));
                }
                Due::New { .. } | Due::Full => {
                    waiting.now.push(lane);
                    is_due = true;
                }
            }
        }
        let sets_timer = !is_timed && !waiting.held.is_empty();
        drop(waiting);
        let is_left = is_due && (self.connections() > FEW || !self.flush());
        if is_left || sets_timer {
            self.wake.notify_one();
        }
    }

    /// Resolves when all that is to be written at once by now has been.
    pub(super) async fn caught_up(&self) {
        let mut rounds = self.rounds.subscribe();
        // The round that goes on may have begun before.
        for _ in 0..2 {
            if self.waiting().now.is_empty() {
                return;
            }
            // The sender lives in `self`.
            let _ = rounds.changed().await;
        }
    }

    /// Writes what publishers leave to it until shutdown, on a thread of its own.
    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            // A publisher that is at it is waited for: what it does not see, it has woken us for.
            self.write(&mut self.sender.lock().unwrap_or_else(PoisonError::into_inner));
            let next = self.waiting().held.front().map(|(due, _)| *due);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
            }
        }
    }

    /// Writes what is due. False where somebody else is at it.
    fn flush(&self) -> bool {
        self.sender.try_lock().map(|mut sender| self.write(&mut sender)).is_ok()
    }

    /// Writes what is due, until nothing is.
    fn write(&self, sender: &mut Sender) {
        loop {
            let lanes = self.take_due();
            if lanes.is_empty() {
                return;
            }
            let rounds: Vec<_> = lanes.into_iter().filter_map(Lane::round).collect();
            self.delivered.increment(sender.send(&rounds));
            rounds.into_iter().for_each(Round::end);
            self.rounds.send_modify(|rounds| *rounds += 1);
        }
    }

    fn take_due(&self) -> Vec<Arc<Lane>> {
        let mut waiting = self.waiting();
        let mut lanes = mem::take(&mut waiting.now);
        if !waiting.held.is_empty() {
            let now = Instant::now();
            let due = waiting.held.partition_point(|(due, _)| *due <= now);
            lanes.extend(waiting.held.drain(..due).map(|(_, lane)| lane));
        }
        lanes
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.flusher.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
