//! Reads alerts into the hub.

use std::{sync::Arc, time::Duration};

use nats::{Broker, BrokerError, Start, topology::Stream};
use service::Backoff;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{AlertFrame, AlertHub};

/// Feeds the hub until shutdown with all alerts from now on. A reader that dies is opened anew behind
/// the last alert seen.
pub(crate) async fn follow(
    hub: Arc<AlertHub>,
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
) {
    let mut last = None;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let feeding = feed(&hub, &*broker, &mut last, &mut backoff);
        let Some(Err(fault)) = shutdown.run_until_cancelled(feeding).await else { return };
        let delay = backoff.next_delay();
        warn!(%fault, ?delay, "the alerts broke off; opening them anew");
        if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
            return;
        }
    }
}

/// `last` is the last sequence of `ALERTS` that was seen.
async fn feed(
    hub: &AlertHub,
    broker: &dyn Broker,
    last: &mut Option<u64>,
    backoff: &mut Backoff,
) -> Result<(), BrokerError> {
    let state = broker.state(Stream::Alerts).await?;
    // A stream that is behind what was seen was made anew.
    let seen = last.filter(|seen| *seen <= state.last_sequence).unwrap_or(state.last_sequence);
    *last = Some(seen);
    let mut reader = broker.reader(Stream::Alerts, &[], Start::Sequence(seen + 1)).await?;
    loop {
        let message = reader.next().await?;
        *last = Some(message.sequence);
        match AlertFrame::read(&message.body) {
            Ok(frame) => hub.publish(frame),
            Err(fault) => warn!(%fault, "not an alert; passed over"),
        }
        backoff.reset();
    }
}
