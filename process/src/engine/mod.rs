//! The loop between `TICKS_RAW` and `TICKS` with `TICKS_REJECTED`, and why it is exact.
//!
//! The promise: every event of every payload is stored exactly once, in `TICKS` or in
//! `TICKS_REJECTED`, and each of the two streams is in the order of the payloads, whichever process
//! dies at whatever moment. It rests on five facts.
//!
//! 1. *One writer.* A session opens its publisher exclusively before it reads anything: what an
//!    older session still sends is refused from then on, and what that one has stored is there to be
//!    read.
//! 2. *One order.* A session takes payloads in stream order from the first unacknowledged one on,
//!    sends their events in that order, and what a broker has stored of a session is, in each
//!    stream, a prefix of what it was given.
//! 3. *Acknowledged is stored.* A payload is acknowledged only when each of its events has its
//!    receipt, or was found stored; and so are all payloads before it.
//! 4. *Nothing is done again.* A session starts by finding in both streams where the events of its
//!    first payload begin ([`recovery`]). As it takes the payloads again it walks along what is
//!    stored of them, and an event found there, by its payload's sequence and its id, is not sent.
//!    By 1 and 3 this finds every event that was ever stored of an unacknowledged payload, so no
//!    event is stored twice; by 3 no event of an acknowledged payload is lost; by 2 what is not
//!    stored yet belongs, in its stream, after all that is, so the order holds, too. It does not
//!    matter whether a crash came between a tick and a rejection of one payload, or how far one
//!    stream was ahead of the other.
//! 5. *The same judgement.* Decoders and rules see nothing but the payload, its envelope and the ids
//!    of the [`Memory`](crate::validate::Memory). That holds the newest ticks *before* the event: it is
//!    filled with the ticks before the first payload, and then, as payloads are taken, with each
//!    tick found stored or sent. So an event that is taken again meets the memory it met before: it
//!    is never a duplicate of itself, and one that was a duplicate still is.
//!
//! What the memory has forgotten, the stream may still know: its receipt then says `duplicate`. That
//! may also be a late message of the session before, stored after it was read (fact 1 is enforced
//! by the broker at the next message only). To know which, the session ends, and the next one reads
//! again: what it finds stored was our own, and otherwise the event is rejected as a duplicate. It
//! is rejected in its place, for no rejection is sent before every tick before it has its receipt.
//!
//! If the settings change in the moment of a crash, facts 1 to 4 still hold, except that an event
//! that was to be rejected and is now a tick may be stored after later ones.

mod output;
mod recovery;
mod session;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use nats::{Broker, BrokerError};
use service::{Backoff, Check, Context};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    decode::{Decoder, Event},
    metrics::Metrics,
    validate::Rules,
};
use session::{Ended, Pending, Session};

/// The lease of the one active processor.
const LEASE: &str = "process";

/// What outlives a session.
pub(crate) struct Engine {
    broker: Arc<dyn Broker>,
    decoder: Decoder,
    rules: Rules,
    remembered_ids: usize,
    drain_deadline: Duration,
    metrics: Metrics,
    check: Check,
    /// How many payloads are not done with.
    load: Arc<AtomicU64>,
    backoff: Backoff,
    /// The last payload that was counted, so that one that comes again is not.
    counted: u64,
    /// Events that the stream dropped as duplicates, by payload and index, until their payload is
    /// done with. Bounded by what a session has in flight.
    repeats: BTreeSet<(u64, usize)>,
    /// Room for the events of one payload.
    events: Vec<Event>,
}

impl Engine {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        decoder: Decoder,
        rules: Rules,
        remembered_ids: usize,
        drain_deadline: Duration,
        check: Check,
        load: Arc<AtomicU64>,
    ) -> Self {
        Self {
            broker,
            decoder,
            rules,
            remembered_ids,
            drain_deadline,
            metrics: Metrics::register(),
            check,
            load,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            counted: 0,
            repeats: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Processes until told to stop, whenever this instance is the active one.
    pub(crate) async fn run(mut self, context: &Context, stop: &CancellationToken) {
        loop {
            // Standing by is being ready: a successor must be, before its predecessor goes.
            self.check.pass();
            let lease = select! {
                () = stop.cancelled() => return,
                lease = context.nats.lease(LEASE, &context.instance) => lease,
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    warn!(%error, "the lease of the processing cannot be asked for; trying again");
                    self.check.fail(error.to_string());
                    self.pause(stop).await;
                    continue;
                }
            };
            // A session that is dropped is a session that crashed: the next one knows what to do.
            if lease.lost().run_until_cancelled(self.sessions(stop)).await.is_some() {
                lease.release().await;
                return;
            }
            warn!("another instance may process now; standing by");
        }
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
        if payload.sequence > self.counted {
            self.counted = payload.sequence;
            self.metrics.processed(payload.ticks, &payload.rejections);
            if let Some(received_at) = payload.received_at {
                self.metrics.stored(received_at);
            }
        }
    }
}

#[cfg(test)]
mod tests;
