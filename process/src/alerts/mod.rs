//! Alerts: rules about the ticks in `TICKS`, and why each crossing fires once.
//!
//! A rule ([`schemas::alert`]) fires with the tick that makes its condition true, and again only
//! after a tick has made it false. It is judged from the first tick on that comes after it was set;
//! it fires with that one where its condition holds already. What a condition needs of the past is
//! the memory of its rule ([`memory`]), and goes by event time alone.
//!
//! The promise: each crossing is in `ALERTS` once, whichever process dies at whatever moment. It
//! rests on four facts.
//!
//! 1. *Judging is repeatable.* It looks at nothing but the rule and the ticks since it was taken
//!    on, in the order of their sequences, so ticks that are read again make the same alerts; the id
//!    of an alert is that of its rule and the sequence of its tick. A rule is saved with the
//!    sequence it was taken on at before it is judged ([`session`]).
//! 2. *What is read no more is kept.* The place in `TICKS` is saved after all rules that have
//!    changed; one that is saved as of a later tick passes over the ticks it knows.
//! 3. *What is published is found.* Before the first tick is read, `ALERTS` is read from the oldest
//!    alert on that is about a tick behind the saved place: what is there is not published again.
//! 4. *One writer.* As with candles: a session opens its publisher exclusively and saves each key
//!    at the revision it has seen.
//!
//! Only the ticks of symbols that have rules are read.

mod book;
mod config;
mod memory;
mod metrics;
mod rules;
mod saved;
mod session;
#[cfg(test)]
mod tests;
mod tick;
mod watch;
mod webhook;

use std::{sync::Arc, time::Duration};

use nats::{Broker, BrokerError};
use service::{Backoff, Check, Context};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{leased::hold, store::Store};
pub use config::AlertsConfig;
use metrics::Metrics;
use rules::RulesReceiver;
use session::{Fault, Session};

/// The lease of the one who judges the rules.
const LEASE: &str = "process.alerts";

/// What outlives a session.
struct Judge {
    broker: Arc<dyn Broker>,
    store: Box<dyn Store>,
    drain_deadline: Duration,
    metrics: Metrics,
}

impl Judge {
    async fn session(&self, stop: &CancellationToken, rules: RulesReceiver) -> Result<(), Fault> {
        match stop.run_until_cancelled(Session::open(self, rules)).await {
            Some(session) => session?.run(stop).await,
            None => Ok(()),
        }
    }
}

/// Judges the rules and delivers their alerts until told to stop, whenever this instance is the one
/// that does. The first check is that of the judging.
pub(crate) async fn run(
    config: AlertsConfig,
    context: &Context,
    [check, delivery]: [Check; 2],
    stop: &CancellationToken,
) {
    if !config.enabled {
        check.pass();
        return delivery.pass();
    }
    let (send, rules) = rules::channel();
    let judging = async {
        let owner = Owner { context, check: &check, stop };
        while let Some(held) = hold(LEASE, context, &check, stop).await {
            // What is dropped has crashed: the next session knows what to do.
            if held.lost().run_until_cancelled(owner.judge(&rules)).await.is_some() {
                return held.release().await;
            }
            warn!("another instance may judge the rules now; standing by");
        }
    };
    let delivering = webhook::run(&config, context, &rules, delivery, stop);
    let following = stop.run_until_cancelled(rules::follow(&context.nats, send));
    tokio::join!(judging, delivering, following);
}

/// An instance that holds the lease.
struct Owner<'a> {
    context: &'a Context,
    check: &'a Check,
    stop: &'a CancellationToken,
}

impl Owner<'_> {
    /// One session after another, until told to stop.
    async fn judge(&self, rules: &RulesReceiver) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let metrics = Metrics::register();
        while !self.stop.is_cancelled() {
            let ended = match self.judge_of(&metrics).await {
                Ok(judge) => judge.session(self.stop, rules.clone()).await,
                Err(fault) => Err(fault),
            };
            let Err(fault) = ended else {
                info!("the judging of rules has stopped");
                return;
            };
            metrics.restarted();
            match fault {
                Fault::Broker(BrokerError::Refused(_)) => {
                    error!(%fault, "no rules can be judged; trying again");
                }
                _ => warn!(%fault, "the judging of rules has ended; starting anew"),
            }
            self.check.fail(fault.to_string());
            self.stop.run_until_cancelled(sleep(backoff.next_delay())).await;
        }
    }

    async fn judge_of(&self, metrics: &Metrics) -> Result<Judge, Fault> {
        let bucket = self.context.nats.alert_state().await;
        Ok(Judge {
            broker: Arc::clone(&self.context.broker),
            store: Box::new(bucket.map_err(|fault| Fault::Store(fault.into()))?),
            drain_deadline: self.context.shutdown_deadline,
            metrics: metrics.clone(),
        })
    }
}
