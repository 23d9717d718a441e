//! Leases: one owner at a time, by a key that goes unless it is renewed.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use schemas::subject;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
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
        let mut waiting = false;
        loop {
            if let Some(lease) = self.try_lease(key, holder).await? {
                return Ok(lease);
            }
            if !waiting {
                info!(lease = key, "another instance holds the lease; standing by");
                waiting = true;
            }
            sleep(self.lease_ttl / 5).await;
        }
    }

    /// Takes the lease `key` if nobody has it.
    pub async fn try_lease(&self, key: &str, holder: &str) -> Result<Option<Lease>, BucketError> {
        let time_to_live = self.lease_ttl;
        let bucket = self.leases().await?;
        let value = Bytes::copy_from_slice(holder.as_bytes());
        let since = Instant::now();
        let Some(revision) = bucket.create(key, value.clone()).await? else { return Ok(None) };
        info!(lease = key, "lease acquired");
        let lost = CancellationToken::new();
        let stop = CancellationToken::new();
        let renewing = bucket.clone();
        let renewed = key.to_owned();
        let renewal = tokio::spawn(renew(
            key.to_owned(),
            Held { revision, since, time_to_live },
            async move |revision| renewing.update(&renewed, value.clone(), revision).await,
            lost.clone(),
            stop.clone(),
        ));
        Ok(Some(Lease { bucket, key: key.to_owned(), lost, renewal, stop: stop.drop_guard() }))
    }

    /// Who has each of these leases.
    pub async fn holders(&self, keys: &[String]) -> Result<Vec<Option<String>>, BucketError> {
        let bucket = self.leases().await?;
        let asking = keys.iter().map(async |key| {
            let value = bucket.get(key).await?;
            Ok(value.map(|(holder, _)| String::from_utf8_lossy(&holder).into_owned()))
        });
        try_join_all(asking).await
    }

    /// How long a lease outlives its owner.
    pub fn lease_ttl(&self) -> Duration {
        self.lease_ttl
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

/// Renews until stopped or lost; returns the last revision. `update` gives the next revision, or
/// nothing where the key is no longer ours.
async fn renew(
    key: String,
    mut held: Held,
    update: impl AsyncFn(u64) -> Result<Option<u64>, BucketError>,
    lost: CancellationToken,
    stop: CancellationToken,
) -> u64 {
    let mut next = held.since + held.time_to_live / 3;
    loop {
        // What is not renewed by then may soon be another's.
        let deadline = held.since + held.time_to_live * 9 / 10;
        tokio::select! {
            () = stop.cancelled() => return held.revision,
            () = sleep_until(next.min(deadline)) => {}
        }
        let attempt = Instant::now();
        let renewed = if attempt < deadline {
            timeout_at(deadline, update(held.revision)).await.ok()
        } else {
            None
        };
        match renewed {
            Some(Ok(Some(revision))) => {
                held.revision = revision;
                held.since = attempt;
                next = attempt + held.time_to_live / 3;
            }
            Some(Err(error)) => {
                warn!(lease = key, %error, "the lease could not be renewed; trying again");
                next = Instant::now() + held.time_to_live / 10;
            }
            Some(Ok(None)) | None => {
                warn!(lease = key, "lease lost");
                lost.cancel();
                return held.revision;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_TO_LIVE: Duration = Duration::from_secs(6);

    /// Runs the renewal with these answers until the lease is lost; how long that took.
    async fn lost_after(update: impl AsyncFn(u64) -> Result<Option<u64>, BucketError>) -> Duration {
        let since = Instant::now();
        let held = Held { revision: 1, since, time_to_live: TIME_TO_LIVE };
        let lost = CancellationToken::new();
        renew("k".into(), held, update, lost.clone(), CancellationToken::new()).await;
        assert!(lost.is_cancelled());
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_cannot_renew_knows_it_before_the_key_goes() {
        let refused = lost_after(async |_| Err(BucketError::test())).await;
        assert!(refused < TIME_TO_LIVE, "{refused:?}");
        let silent = lost_after(async |_| std::future::pending().await).await;
        assert!(silent < TIME_TO_LIVE, "{silent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_counts_from_when_it_was_asked_for() {
        // Each answer takes a second, and there are three of them.
        let lost = lost_after(async |revision| {
            if revision == 4 {
                return std::future::pending().await;
            }
            sleep(Duration::from_secs(1)).await;
            Ok(Some(revision + 1))
        })
        .await;
        let last_asked = TIME_TO_LIVE / 3 * 3;
        assert!(lost > last_asked && lost < last_asked + TIME_TO_LIVE, "{lost:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_anothers_is_lost_at_once() {
        let lost = lost_after(async |_| Ok(None)).await;
        assert_eq!(lost, TIME_TO_LIVE / 3);
    }
}
