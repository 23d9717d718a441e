//! Candles of the trades in `TICKS`, and why they are exact.
//!
//! A candle holds the trades of one symbol whose event time is in its span. It is *closed* when the
//! event time of its symbol has gone past its end and a little more (`grace_ms`), published as
//! revision 1, and kept: a trade that comes late all the same (`late_ms`) *restates* it, with a
//! higher revision. Then it is let go. The event time of a symbol is that of its newest trade; where
//! it is silent, its source's, and where that is silent, too, it goes on with the wall's
//! ([`clock`]). Candles that are running are published now and then to whoever listens, and stored
//! nowhere.
//!
//! The promise: every revision of every candle is in `CANDLES` once, its revisions are 1, 2, 3, …,
//! and the last one is of every trade that came in time, whichever process dies at whatever moment.
//! It rests on five facts.
//!
//! 1. *A candle knows its trades.* It carries the sequence of the newest of them, and trades come in
//!    the order of their sequences: a trade is in it exactly if its sequence is not higher. So ticks
//!    that are read again change nothing.
//! 2. *What is acknowledged is kept.* Ticks are acknowledged when each candle they are in is saved
//!    ([`saved`]) or, where it is closed, stored in `CANDLES` as it is. What is saved of a symbol is
//!    saved at once, and need not be of the same moment as that of another.
//! 3. *What is published is found.* Before the first tick is read, `CANDLES` is read from the
//!    oldest closed candle on that was kept when the state was last saved. So every candle that was
//!    published since is known with its revision and its newest trade, and is neither published
//!    again nor is one of its revisions used twice, although closing goes by clocks and is not the
//!    same when ticks are read again.
//! 4. *What is forgotten does not begin again.* Symbols are forgotten where there are many, and of
//!    which no candle can change. How far their time had come is saved for their source before they
//!    are deleted, and is where the time of a symbol begins that is not known.
//! 5. *One writer.* A session opens its publisher exclusively, and saves each key at the revision it
//!    has seen: one that stalled and was replaced can do neither any more, or its successor finds
//!    out at its own first attempt and begins again.

mod book;
mod clock;
mod config;
mod metrics;
mod output;
mod saved;
mod series;
mod session;
#[cfg(test)]
mod tests;
mod trade;
mod window;

use std::{sync::Arc, time::Duration};

use nats::{Broker, BrokerError, LiveMessage, Nats};
use schemas::{calendar::Calendars, subject};
use service::{Backoff, Check, Context};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{leased::hold, store::Store};
pub use config::CandlesConfig;
use metrics::Metrics;
use session::{Fault, Session};

/// The lease of the one who makes candles.
const LEASE: &str = "process.candles";

/// How many symbols have candles at most. Where none can be forgotten, a new one has none.
const MAX_SYMBOLS: usize = 100_000;

/// What outlives a session.
struct Maker {
    broker: Arc<dyn Broker>,
    store: Box<dyn Store>,
    config: CandlesConfig,
    calendars: Calendars,
    max_symbols: usize,
    drain_deadline: Duration,
    metrics: Metrics,
}

impl Maker {
    fn running_every(&self) -> Duration {
        Duration::from_millis(self.config.running_ms)
    }

    async fn session(
        &self,
        stop: &CancellationToken,
        running: &mpsc::Sender<Vec<LiveMessage>>,
    ) -> Result<(), Fault> {
        match stop.run_until_cancelled(Session::open(self)).await {
            Some(session) => session?.run(stop, running).await,
            None => Ok(()),
        }
    }
}

/// Makes candles until told to stop, whenever this instance is the one that does.
pub(crate) async fn run(
    config: CandlesConfig,
    calendars: Calendars,
    context: &Context,
    check: Check,
    stop: &CancellationToken,
) {
    if config.intervals.is_empty() {
        return check.pass();
    }
    let (running, messages) = mpsc::channel(1);
    let making = async move {
        let owner = Owner { config, calendars, context, check: &check, stop };
        while let Some(held) = hold(LEASE, context, &check, stop).await {
            // What is dropped has crashed: the next session knows what to do.
            if held.lost().run_until_cancelled(owner.make(&running)).await.is_some() {
                return held.release().await;
            }
            warn!("another instance may make candles now; standing by");
        }
    };
    tokio::join!(making, publish_running(&context.nats, messages));
}

/// Publishes the candles that are running, until there will be no more.
async fn publish_running(nats: &Nats, mut messages: mpsc::Receiver<Vec<LiveMessage>>) {
    while let Some(batch) = messages.recv().await {
        for message in batch {
            if nats.publish_live(message).await.is_err() {
                // Newer ones will follow.
                break;
            }
        }
    }
}

/// An instance that holds the lease.
struct Owner<'a> {
    config: CandlesConfig,
    calendars: Calendars,
    context: &'a Context,
    check: &'a Check,
    stop: &'a CancellationToken,
}

impl Owner<'_> {
    /// One session after another, until told to stop.
    async fn make(&self, running: &mpsc::Sender<Vec<LiveMessage>>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut maker = None;
        while !self.stop.is_cancelled() {
            let ended = match &maker {
                Some(maker) => Maker::session(maker, self.stop, running).await,
                None => match self.maker().await {
                    Ok(opened) => {
                        maker = Some(opened);
                        continue;
                    }
                    Err(fault) => Err(fault),
                },
            };
            let Err(fault) = ended else {
                info!("the making of candles has stopped");
                return;
            };
            if let Some(maker) = &maker {
                maker.metrics.restarted();
            }
            match fault {
                Fault::Broker(BrokerError::Refused(_)) => {
                    error!(%fault, "no candles can be made; trying again");
                }
                _ => warn!(%fault, "the making of candles has ended; starting anew"),
            }
            self.check.fail(fault.to_string());
            self.stop.run_until_cancelled(sleep(backoff.next_delay())).await;
        }
    }

    async fn maker(&self) -> Result<Maker, Fault> {
        let description = "candles that are running, and where CANDLES is to be read from";
        let bucket = self.context.nats.bucket(subject::CANDLE_STATE, description, None).await;
        Ok(Maker {
            broker: Arc::clone(&self.context.broker),
            store: Box::new(bucket.map_err(|fault| Fault::Store(fault.into()))?),
            config: self.config.clone(),
            calendars: self.calendars.clone(),
            max_symbols: MAX_SYMBOLS,
            drain_deadline: self.context.shutdown_deadline,
            metrics: Metrics::register(),
        })
    }
}
