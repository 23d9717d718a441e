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
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Bucket, BucketError, Nats};

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
    instances: Arc<RwLock<BTreeMap<String, Instance>>>,
    _following: Arc<tokio_util::sync::DropGuard>,
}

impl Directory {
    /// Reads the registry and follows it.
    pub async fn follow(nats: &Nats) -> Result<Self, BucketError> {
        let bucket = nats.registry().await?;
        let instances = Arc::new(RwLock::default());
        let stop = CancellationToken::new();
        // The first watch is opened here, so that a registry that cannot be read is an error.
        let first = bucket.watch().await?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow(
            bucket,
            first,
            Arc::clone(&instances),
        )));
        Ok(Self { instances, _following: Arc::new(stop.drop_guard()) })
    }

    /// The live instances of a service, sorted by name.
    pub fn instances(&self, service: &str) -> Vec<Instance> {
        let known = self.instances.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|instance| instance.service == service).cloned().collect()
    }

    /// All live instances, sorted by service and name.
    pub fn all(&self) -> Vec<Instance> {
        self.instances.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

async fn follow(
    bucket: Bucket,
    first: impl futures_util::Stream<Item = Result<crate::Change, BucketError>> + Unpin,
    instances: Arc<RwLock<BTreeMap<String, Instance>>>,
) {
    let mut changes = futures_util::future::Either::Left(first);
    loop {
        while let Some(change) = changes.next().await {
            match change {
                Ok(change) => apply(&instances, change),
                Err(error) => {
                    debug!(%error, "the registry is watched anew");
                    break;
                }
            }
        }
        sleep(Duration::from_millis(500)).await;
        if let Ok(again) = bucket.watch().await {
            // What went while nobody watched must not stay.
            instances.write().unwrap_or_else(PoisonError::into_inner).clear();
            changes = futures_util::future::Either::Right(again);
        }
    }
}

fn apply(instances: &RwLock<BTreeMap<String, Instance>>, change: crate::Change) {
    let instance = change.value.and_then(|value| serde_json::from_slice(&value).ok());
    let mut known = instances.write().unwrap_or_else(PoisonError::into_inner);
    match instance {
        Some(instance) => known.insert(change.key, instance),
        None => known.remove(&change.key),
    };
}
