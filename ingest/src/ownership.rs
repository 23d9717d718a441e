//! Owning a source for longer than the broker can be reached.
//!
//! A lease that cannot be renewed is lost, because another instance may have it by then. But while
//! the broker is away nobody can have it: whoever owned a source goes on fetching into its spool, and
//! asks for the lease again until the broker gives it, or says that another instance has it. Should
//! two fetch for that moment, their payloads have the same message ids.

use nats::{Lease, Nats};
use service::Context;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Keeps the lease until `done`, and gives it back; nothing where it was lost, which `lost` tells.
pub(crate) async fn keep(
    context: &Context,
    key: &str,
    mut lease: Lease,
    can_spool: bool,
    lost: &CancellationToken,
    done: &CancellationToken,
) -> Option<Lease> {
    loop {
        tokio::select! {
            () = done.cancelled() => return Some(lease),
            () = lease.lost().cancelled() => {}
        }
        let regained = async {
            if can_spool { regain(&context.nats, key, &context.instance).await } else { None }
        };
        match done.run_until_cancelled(regained).await? {
            Some(again) => lease = again,
            None => {
                lost.cancel();
                return None;
            }
        }
    }
}

/// The lease once more; nothing where another instance has it.
async fn regain(nats: &Nats, key: &str, instance: &str) -> Option<Lease> {
    info!(lease = key, "fetching goes on while nobody can have the lease");
    let keys = [key.to_owned()];
    loop {
        match nats.try_lease(key, instance).await {
            Ok(Some(lease)) => return Some(lease),
            // Our own runs out by itself.
            Ok(None) => match nats.holders(&keys).await.as_deref() {
                Ok([Some(holder)]) if holder != instance => return None,
                _ => {}
            },
            Err(error) => debug!(lease = key, %error, "nobody can have the lease"),
        }
        sleep(nats.lease_ttl() / 5).await;
    }
}
