//! Posts alerts to the webhooks of their rules, at least once, in order for each rule.
//!
//! One instance delivers, by a lease. It reads `ALERTS` from a saved place on, and hands each alert to
//! the *line* of its rule: a short queue and a task ([`line`]) that posts one after the other, with
//! retries. So a receiver that is dead or slow delays only its own alerts; what does not fit its queue
//! is left in the stream, and read from there by the line itself when it gets that far.
//!
//! The place is behind an alert only when its fate is saved: what was in the middle when a deliverer
//! died is posted again, with the same `webhook-id`. It is a place and not a durable consumer, because
//! a consumer with one message open for an hour would stop at the end of its window, and its receiver
//! with it would hold up the others.

mod address;
mod line;
mod metrics;
mod post;
mod session;
mod signature;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use nats::Broker;
use service::{Backoff, Check, Context};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{AlertsConfig, rules::RulesReceiver};
use crate::{leased::hold, store::Store};
use post::Poster;
use session::{Fault, Session};

/// The lease of the one who delivers.
const LEASE: &str = "process.webhooks";

/// What outlives a session.
struct Deliverer {
    broker: Arc<dyn Broker>,
    /// The rules, where one that is not followed yet is looked for.
    rules: Box<dyn Store>,
    store: Arc<dyn Store>,
    poster: Arc<Poster>,
    config: AlertsConfig,
    drain_deadline: Duration,
}

impl Deliverer {
    async fn session(&self, stop: &CancellationToken, rules: RulesReceiver) -> Result<(), Fault> {
        match stop.run_until_cancelled(Session::open(self, rules, stop)).await {
            Some(session) => session?.run(stop).await,
            None => Ok(()),
        }
    }
}

/// Delivers until told to stop, whenever this instance is the one that does.
pub(super) async fn run(
    config: &AlertsConfig,
    context: &Context,
    rules: &RulesReceiver,
    check: Check,
    stop: &CancellationToken,
) {
    let poster = match Poster::new(config) {
        Ok(poster) => Arc::new(poster),
        Err(fault) => {
            error!(%fault, "no webhooks can be posted");
            return check.fail(fault.to_string());
        }
    };
    metrics::describe();
    while let Some(held) = hold(LEASE, context, &check, stop).await {
        let delivering = deliver(config, context, rules, &poster, &check, stop);
        // What is dropped has crashed: the next session knows what to do.
        if held.lost().run_until_cancelled(delivering).await.is_some() {
            return held.release().await;
        }
        warn!("another instance may deliver alerts now; standing by");
    }
}

/// One session after another, until told to stop.
async fn deliver(
    config: &AlertsConfig,
    context: &Context,
    rules: &RulesReceiver,
    poster: &Arc<Poster>,
    check: &Check,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while !stop.is_cancelled() {
        let ended = async {
            let unusable = |fault: nats::BucketError| Fault::Store(fault.into());
            let deliverer = Deliverer {
                broker: Arc::clone(&context.broker),
                rules: Box::new(context.nats.alert_rules().await.map_err(unusable)?),
                store: Arc::new(context.nats.alert_deliveries().await.map_err(unusable)?),
                poster: Arc::clone(poster),
                config: config.clone(),
                drain_deadline: context.shutdown_deadline,
            };
            deliverer.session(stop, rules.clone()).await
        };
        let Err(fault) = ended.await else {
            info!("the delivery of alerts has stopped");
            return;
        };
        metrics::restarted();
        warn!(%fault, "the delivery of alerts has ended; starting anew");
        check.fail(fault.to_string());
        stop.run_until_cancelled(sleep(backoff.next_delay())).await;
        check.pass();
    }
}
