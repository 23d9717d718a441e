//! The loop between `TICKS_RAW` and `TICKS` with `TICKS_REJECTED`, and why it is exact.
//!
//! The promise: every event of every payload is stored exactly once, in `TICKS` or in
//! `TICKS_REJECTED`, and in each of the two the events of a partition are in the order of the
//! payloads, whichever process dies at whatever moment, and whichever partition moves from one
//! process to another. A partition is some of the symbols ([`partition`]); every event belongs to
//! one. It rests on five facts, each of them about one partition.
//!
//! 1. *One writer.* A session opens its publisher before it reads anything: what an older session
//!    still sends of the partition is refused from then on, and what that one has stored is there to
//!    be read.
//! 2. *One order.* A session takes payloads in stream order from the first one on that may be
//!    undone, sends their events in that order, and what a broker has stored of a session is, in
//!    each stream, a prefix of what it was given.
//! 3. *Acknowledged is stored.* A position says that each event of the partition, of payloads up to
//!    there, has its receipt, or was found stored. It only grows. Whoever it is written by, it is
//!    true: it tells what is stored, not who may store.
//! 4. *Nothing is done again.* A session starts by finding in both streams what is stored behind
//!    the position ([`recovery`]). As it takes the payloads again, an event found there, by its
//!    payload's sequence and its id, is not sent. By 1 and 3 this finds every event that was ever
//!    stored of a payload behind the position, so no event is stored twice; by 3 no event before it
//!    is lost; by 2 what is not stored yet belongs, in its stream, after all of the partition that
//!    is, so the order holds, too. It does not matter whether a crash came between a tick and a
//!    rejection of one payload, or how far one stream was ahead of the other.
//! 5. *The same judgement.* Decoders and rules see nothing but the payload, its envelope, the
//!    settings and the [`State`](crate::validate::State). That depends on the ticks *before* the
//!    event: it is filled with those before the first payload, and then, as payloads are taken, with
//!    each tick found stored or sent. So an event that is taken again meets the state it met before:
//!    it is never a duplicate of itself, one that was a duplicate still is, and a price is compared
//!    with the same prices.
//!
//! A session has one publisher and one reader for all its partitions, so what holds for one holds
//! for all at once: they are one partition for as long as it lasts. A partition moves between two
//! sessions: the old one has drained and saved its position, or it has died, or it has stalled and
//! does not know. The new owner cannot tell, and need not: it starts as after a crash.
//!
//! Of several writers' events the stream knows no common order of payloads, so the position carries
//! the place in each output stream behind which everything is that is not covered ([`positions`]).
//! That place is taken from receipts: what a session sends later is stored later. While a session
//! still walks over what others have stored before it, the place stays where it began.
//!
//! How far the memories of two owners reach back may differ: each remembers the newest ticks of its
//! own partitions. For a price that only changes what is flagged; and where outliers are rejected, an
//! event that is not stored as a tick, though later ones of its partition are, was rejected, and
//! stays so. What the memory of ids has forgotten, the stream may still know: its receipt then says
//! `duplicate`. To know whether that is our own message of a session before, the session ends, and
//! the next one reads again: what it finds stored was our own, and otherwise the event is rejected
//! as a duplicate. It is rejected in its place, for no rejection is sent before every tick before it
//! has its receipt.
//!
//! A payload that ends its process has no events to send. That it is given up is known before its
//! rejection is sent ([`care`]), and its rejection is found like any other: from then on nobody decodes
//! it, so it has one and the same fate whoever takes it.
//!
//! A broker may have just one writer (RabbitMQ). There is one partition then, its position is that
//! of a durable consumer, and where its events begin in the output streams is found by bisection.
//!
//! If the settings change in the moment of a crash, facts 1 to 4 still hold, except that an event
//! that was to be rejected and is now a tick may be stored after later ones. If the number of
//! partitions changes, whoever starts with the new one waits until it holds every lease, and turns
//! the positions into ones that are true of the new partitions ([`ownership`]).

mod balance;
mod care;
mod input;
mod output;
pub(crate) mod owners;
mod ownership;
pub(crate) mod partition;
pub(crate) mod peek;
mod positions;
mod recovery;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use nats::{Broker, BrokerError};
use service::{Backoff, Check, Context};
use tokio::{select, sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{decode::Event, metrics::Metrics, reading::Reading};
use care::Notes;
use ownership::{Owned, Ownership};
use peek::Question;
use session::{Ended, Pending, Session};

/// How often the positions are saved: after a crash, so much is read again.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How much of something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many ticks are remembered.
    pub(crate) remembered_ids: usize,
    /// How often a payload is tried that processes end with.
    pub(crate) poison_tries: u32,
    /// How long it may take to drain.
    pub(crate) drain_deadline: Duration,
}

/// What outlives a session.
pub(crate) struct Engine {
    broker: Arc<dyn Broker>,
    reading: Arc<Reading>,
    /// What others want to know of the session's memory.
    questions: mpsc::Receiver<Question>,
    limits: Limits,
    metrics: Metrics,
    check: Check,
    /// How many payloads are not done with.
    load: Arc<AtomicU64>,
    backoff: Backoff,
    /// What is ours; nothing where the broker has one writer, who has everything.
    owned: Option<Owned>,
    /// Where it is noted what processes end with; nothing before the buckets are there.
    notes: Option<Notes>,
    save_every: Duration,
    /// The last payload that was counted, by its partition, so that one that comes again is not.
    counted: BTreeMap<u16, u64>,
    /// Events that the stream dropped as duplicates, by payload and index, until their payload is
    /// done with. Bounded by what a session has in flight.
    repeats: BTreeSet<(u64, usize)>,
    /// Room for the events of one payload.
    events: Vec<Event>,
}

impl Engine {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        reading: Arc<Reading>,
        questions: mpsc::Receiver<Question>,
        limits: Limits,
        check: Check,
        load: Arc<AtomicU64>,
    ) -> Self {
        Self {
            broker,
            reading,
            questions,
            limits,
            metrics: Metrics::register(),
            check,
            load,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            owned: None,
            notes: None,
            save_every: SAVE_EVERY,
            counted: BTreeMap::new(),
            repeats: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Processes what this instance owns of so many partitions, until told to stop.
    pub(crate) async fn run(mut self, context: &Context, wanted: u16, stop: &CancellationToken) {
        let Some(mut ownership) = self.join(context, wanted, stop).await else { return };
        self.notes = Some(Notes {
            store: ownership.notes(),
            // An instance that is started again may have the same name.
            me: format!("{} {:016x}", context.instance, rand::random::<u64>()).into(),
            max_tries: self.limits.poison_tries,
        });
        while !stop.is_cancelled() {
            match stop.run_until_cancelled(ownership.settle()).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    warn!(%error, "the partitions cannot be agreed on; trying again");
                    self.check.fail(error.to_string());
                    self.pause(stop).await;
                    continue;
                }
                None => break,
            }
            // Standing by is being ready: a successor must be, before its predecessor goes.
            self.check.pass();
            if ownership.is_empty() {
                stop.run_until_cancelled(sleep(ownership.pace())).await;
                continue;
            }
            self.owned = ownership.owned();
            let turn = stop.child_token();
            let sessions = async {
                self.sessions(&turn).await;
                turn.cancel();
            };
            let balance = async {
                turn.run_until_cancelled(ownership.unbalanced()).await;
                turn.cancel();
            };
            select! {
                // A session that is dropped is a session that crashed: the next one knows what to do.
                () = ownership.lost() => warn!("another instance may own some of it by now"),
                _ = async { tokio::join!(sessions, balance) } => {}
            }
        }
        ownership.release().await;
    }

    /// Joins those who share the partitions.
    async fn join(
        &mut self,
        context: &Context,
        wanted: u16,
        stop: &CancellationToken,
    ) -> Option<Ownership> {
        while !stop.is_cancelled() {
            let joining = Ownership::join(context, wanted);
            match stop.run_until_cancelled(joining).await? {
                Ok(ownership) => return Some(ownership),
                Err(error) => {
                    warn!(%error, "the partitions are not known; trying again");
                    self.check.fail(error.to_string());
                    self.pause(stop).await;
                }
            }
        }
        None
    }

    /// One session after another, until told to stop.
    async fn sessions(&mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.session(stop).await {
                Ok(Ended::Stopped) => info!("processing has stopped"),
                Ok(Ended::Repeated) => {
                    debug!("the stream has dropped repeated ticks; reading again")
                }
                Err(fault) => {
                    self.metrics.restarted();
                    self.check.fail(fault.to_string());
                    match fault {
                        BrokerError::Refused(_) => {
                            error!(%fault, "processing stands still; trying again");
                        }
                        _ => warn!(%fault, "the session has ended; starting anew"),
                    }
                    self.pause(stop).await;
                }
            }
        }
    }

    pub(crate) async fn session(&mut self, stop: &CancellationToken) -> Result<Ended, BrokerError> {
        match stop.run_until_cancelled(Session::open(self)).await {
            Some(session) => session?.run(stop).await,
            None => Ok(Ended::Stopped),
        }
    }

    async fn pause(&mut self, stop: &CancellationToken) {
        let delay = self.backoff.next_delay();
        stop.run_until_cancelled(sleep(delay)).await;
    }

    /// A payload is done with, for the first time or again.
    fn count(&mut self, payload: &Pending) {
        while self.repeats.first().is_some_and(|(sequence, _)| *sequence <= payload.sequence) {
            self.repeats.pop_first();
        }
        let counted = self.counted.entry(payload.home).or_default();
        if payload.sequence > *counted {
            *counted = payload.sequence;
            self.metrics.processed(payload.ticks, &payload.rejections);
            if let Some(received_at) = payload.received_at {
                self.metrics.stored(received_at);
            }
        }
    }
}

#[cfg(test)]
mod tests;
