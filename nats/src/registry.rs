//! The registry of live instances: a bucket whose keys go when they are not renewed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use schemas::{http::Instance, subject};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Bucket, BucketError, Change, Nats};

const DESCRIPTION: &str = "live instances: gone when not renewed";

impl Nats {
    async fn registry(&self) -> Result<Bucket, BucketError> {
        self.bucket(subject::REGISTRY, DESCRIPTION, Some(self.lease_ttl)).await
    }

    /// Writes an instance into the registry for one lease time.
    pub async fn put_instance(&self, instance: &Instance) -> Result<(), BucketError> {
        put(&self.registry().await?, instance).await
    }

    /// Takes an instance from the registry; false where it was not there.
    pub async fn remove_instance(
        &self,
        service: &str,
        instance: &str,
    ) -> Result<bool, BucketError> {
        let bucket = self.registry().await?;
        let key = key(service, instance);
        let known = bucket.get(&key).await?.is_some();
        if known {
            bucket.delete(&key, None).await?;
        }
        Ok(known)
    }
}

async fn put(bucket: &Bucket, instance: &Instance) -> Result<(), BucketError> {
    let value = serde_json::to_vec(instance).unwrap_or_default();
    bucket.put(&key(&instance.service, &instance.instance), Bytes::from(value)).await.map(drop)
}

fn key(service: &str, instance: &str) -> String {
    format!("{service}.{instance}")
}

/// Our own instance in the registry, renewed until closed.
pub struct Registration {
    nats: Nats,
    service: String,
    instance: String,
    stop: CancellationToken,
    renewal: tokio::task::JoinHandle<()>,
}

/// Registers an instance and keeps it registered, with its current load.
pub async fn register(
    nats: &Nats,
    mut instance: Instance,
    load: Arc<AtomicU64>,
) -> Result<Registration, BucketError> {
    let bucket = nats.registry().await?;
    instance.load = load.load(Ordering::Relaxed);
    put(&bucket, &instance).await?;
    let (service, name) = (instance.service.clone(), instance.instance.clone());
    let stop = CancellationToken::new();
    let mut ticks = interval(nats.lease_ttl / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped = stop.clone();
    let renewal = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                _ = ticks.tick() => {}
            }
            instance.load = load.load(Ordering::Relaxed);
            if let Err(error) = put(&bucket, &instance).await {
                warn!(%error, service = instance.service, "the registration could not be renewed");
            }
        }
    });
    Ok(Registration { nats: nats.clone(), service, instance: name, stop, renewal })
}

impl Registration {
    /// Takes the instance from the registry, so that nobody is sent to it any more.
    pub async fn close(self) {
        self.stop.cancel();
        let _ = self.renewal.await;
        if let Err(error) = self.nats.remove_instance(&self.service, &self.instance).await {
            warn!(%error, service = self.service, "the registration stays until its lease runs out");
        }
    }
}

/// A live view of the registry. Cheap to clone; it follows the registry until it is dropped.
#[derive(Clone)]
pub struct Directory {
    known: Arc<RwLock<Known>>,
    _following: Arc<tokio_util::sync::DropGuard>,
}

impl Directory {
    /// Reads the registry and follows it.
    pub async fn follow(nats: &Nats) -> Result<Self, BucketError> {
        let bucket = nats.registry().await?;
        let known = Arc::new(RwLock::default());
        let stop = CancellationToken::new();
        // The first watch is opened here, so that a registry that cannot be read is an error.
        let first = bucket.watch().await?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow(
            nats.clone(),
            bucket,
            first,
            Arc::clone(&known),
        )));
        Ok(Self { known, _following: Arc::new(stop.drop_guard()) })
    }

    /// The live instances of a service, sorted by name.
    pub fn instances(&self, service: &str) -> Vec<Instance> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.all().filter(|instance| instance.service == service).cloned().collect()
    }

    /// All live instances, sorted by service and name.
    pub fn all(&self) -> Vec<Instance> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.all().cloned().collect()
    }
}

/// The instances that are known.
///
/// While NATS is away nobody can renew, so what has run out by the time it is back says nothing
/// about who is alive: after an interruption everybody has one lease time to be heard of again.
#[derive(Default)]
struct Known {
    /// By key; with each, whether it was heard of since the last interruption.
    instances: BTreeMap<String, (Instance, bool)>,
    /// Until when what was not heard of since the last interruption stays.
    grace: Option<Instant>,
}

impl Known {
    fn all(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().map(|(instance, _)| instance)
    }

    /// Nobody could renew, or nobody listened.
    fn interrupted(&mut self, grace: Instant) {
        self.instances.values_mut().for_each(|(_, heard)| *heard = false);
        self.grace = Some(grace);
    }

    fn apply(&mut self, change: Change) {
        let instance = change.value.and_then(|value| serde_json::from_slice(&value).ok());
        match instance {
            Some(instance) => {
                self.instances.insert(change.key, (instance, true));
            }
            None if change.expired && self.grace.is_some() => {}
            None => {
                self.instances.remove(&change.key);
            }
        }
    }

    /// The time after an interruption is over.
    fn settle(&mut self) {
        self.grace = None;
        self.instances.retain(|_, (_, heard)| *heard);
    }
}

async fn follow(
    nats: Nats,
    bucket: Bucket,
    first: impl futures_util::Stream<Item = Result<Change, BucketError>> + Unpin,
    known: Arc<RwLock<Known>>,
) {
    let locked = || known.write().unwrap_or_else(PoisonError::into_inner);
    let mut changes = futures_util::future::Either::Left(first);
    let mut connects = nats.connects();
    loop {
        let grace = locked().grace;
        let change = tokio::select! {
            change = changes.next() => Some(change),
            () = until(grace) => {
                locked().settle();
                continue;
            }
            // What was not renewed need not be announced: look by ourselves, too.
            () = sleep(nats.lease_ttl) => None,
        };
        if std::mem::replace(&mut connects, nats.connects()) != connects {
            locked().interrupted(Instant::now() + nats.lease_ttl);
        }
        match change {
            None => {}
            Some(Some(Ok(change))) => locked().apply(change),
            Some(fault) => {
                debug!(?fault, "the registry is watched anew");
                sleep(Duration::from_millis(500)).await;
                if let Ok(again) = bucket.watch().await {
                    // What went while nobody watched must not stay for ever.
                    locked().interrupted(Instant::now() + nats.lease_ttl);
                    changes = futures_util::future::Either::Right(again);
                }
            }
        }
    }
}

/// Waits for a time, if there is one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn change(key: &str, alive: bool, expired: bool) -> Change {
        let instance = Instance {
            service: "s".into(),
            instance: key.into(),
            ip_address: "127.0.0.1".into(),
            port_number: 1,
            protocol: "http".into(),
            version: "1".into(),
            load: 0,
            registered_at: Timestamp::UNIX_EPOCH,
        };
        let value = alive.then(|| serde_json::to_vec(&instance).unwrap().into());
        Change { key: key.into(), value, revision: 1, expired }
    }

    fn names(known: &Known) -> Vec<&str> {
        known.all().map(|instance| instance.instance.as_str()).collect()
    }

    #[test]
    fn who_goes_or_runs_out_is_forgotten() {
        let mut known = Known::default();
        for key in ["a", "b", "c"] {
            known.apply(change(key, true, false));
        }
        known.apply(change("a", false, false));
        known.apply(change("b", false, true));
        assert_eq!(names(&known), ["c"]);
    }

    #[test]
    fn an_interruption_leaves_everybody_time_to_be_heard_of_again() {
        let mut known = Known::default();
        for key in ["alive", "dead", "gone"] {
            known.apply(change(key, true, false));
        }
        known.interrupted(Instant::now());
        for key in ["alive", "dead"] {
            known.apply(change(key, false, true));
        }
        known.apply(change("gone", false, false));
        assert_eq!(names(&known), ["alive", "dead"], "only who said so is gone");
        known.apply(change("alive", true, false));
        known.settle();
        assert_eq!(names(&known), ["alive"]);
        known.apply(change("alive", false, true));
        assert!(names(&known).is_empty(), "afterwards a lease is a lease again");
    }
}
