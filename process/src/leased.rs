//! Work that one instance does at a time, by a lease.

use std::time::Duration;

use nats::Lease;
use service::{Backoff, Check, Context};
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Waits until this instance holds the lease; `None` when it is told to stop.
pub(crate) async fn hold(
    lease: &'static str,
    context: &Context,
    check: &Check,
    stop: &CancellationToken,
) -> Option<Lease> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        // Standing by is being ready: a successor must be, before its predecessor goes.
        check.pass();
        let held = select! {
            () = stop.cancelled() => return None,
            held = context.nats.lease(lease, &context.instance) => held,
        };
        match held {
            Ok(held) => return Some(held),
            Err(error) => {
                warn!(lease, %error, "the lease cannot be asked for; trying again");
                check.fail(error.to_string());
                stop.run_until_cancelled(sleep(backoff.next_delay())).await;
            }
        }
    }
}
