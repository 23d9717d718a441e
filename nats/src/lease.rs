//! Leases: one owner at a time, by a key that goes unless it is renewed.

use std::time::Duration;

use bytes::Bytes;
use schemas::subject;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{Bucket, BucketError, Nats};

/// The right to be the only one who does something, held until it is released or lost.
///
/// It is renewed at a third of its time to live. An owner that cannot renew it knows that it is
/// lost before anybody else can have it.
pub struct Lease {
    bucket: Bucket,
    key: String,
    lost: CancellationToken,
    renewal: tokio::task::JoinHandle<u64>,
    /// Ends the renewal, also when an owner is dropped in the middle of its work.
    stop: DropGuard,
}

impl Nats {
    /// The bucket of leases.
    pub(crate) async fn leases(&self) -> Result<Bucket, BucketError> {
        let description = "who owns what: gone when not renewed";
        self.bucket(subject::LEASES, description, Some(self.lease_ttl)).await
    }

    /// Waits until the lease `key` is ours.
    pub async fn lease(&self, key: &str, holder: &str) -> Result<Lease, BucketError> {
        let time_to_live = self.lease_ttl;
        let bucket = self.leases().await?;
        let value = Bytes::copy_from_slice(holder.as_bytes());
        let mut waiting = false;
        let (revision, since) = loop {
            let since = Instant::now();
            if let Some(revision) = bucket.create(key, value.clone()).await? {
                break (revision, since);
            }
            if !waiting {
                info!(lease = key, "another instance holds the lease; standing by");
                waiting = true;
            }
            sleep(time_to_live / 5).await;
        };
        info!(lease = key, "lease acquired");
        let lost = CancellationToken::new();
        let stop = CancellationToken::new();
        let renewal = tokio::spawn(renew(
            bucket.clone(),
            key.to_owned(),
            value,
            Held { revision, since, time_to_live },
            lost.clone(),
            stop.clone(),
        ));
        Ok(Lease { bucket, key: key.to_owned(), lost, renewal, stop: stop.drop_guard() })
    }
}

impl Lease {
    /// Cancelled when the lease is lost: stop at once.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives the lease back, so that the next owner need not wait for its time to run out.
    pub async fn release(self) {
        drop(self.stop);
        let Ok(revision) = self.renewal.await else { return };
        if self.lost.is_cancelled() {
            return;
        }
        if let Err(error) = self.bucket.delete(&self.key, Some(revision)).await {
            warn!(lease = self.key, %error, "the lease was not given back; it runs out by itself");
        }
    }
}

struct Held {
    revision: u64,
    since: Instant,
    time_to_live: Duration,
}

/// Renews until stopped or lost; returns the last revision.
async fn renew(
    bucket: Bucket,
    key: String,
    value: Bytes,
    mut held: Held,
    lost: CancellationToken,
    stop: CancellationToken,
) -> u64 {
    let mut ticks = interval(held.time_to_live / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return held.revision,
            _ = ticks.tick() => {}
        }
        let attempt = Instant::now();
        // What is not renewed by now may already be another's.
        let deadline = held.since + held.time_to_live * 9 / 10;
        match tokio::time::timeout_at(deadline, bucket.update(&key, value.clone(), held.revision))
            .await
        {
            Ok(Ok(Some(revision))) => {
                held.revision = revision;
                held.since = attempt;
            }
            Ok(Err(error)) if Instant::now() < deadline => {
                warn!(lease = key, %error, "the lease could not be renewed; trying again");
            }
            _ => {
                warn!(lease = key, "lease lost");
                lost.cancel();
                return held.revision;
            }
        }
    }
}
