//! Which partitions are ours, by leases.
//!
//! A lease is for calm: it keeps two instances from fencing each other for ever. It is not for
//! safety, which is the fence. What moves is decided by [`Plan`] alone, from the holders of the
//! leases and the live instances in the registry; partitions are given back only between sessions.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::select_all;
use nats::{Broker, Bucket, BucketError, Directory, Lease, Nats, Partitions, topology::Stream};
use service::Context;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    balance::Plan,
    care::NoteStore,
    positions::{Position, PositionBucket, PositionStore, key, note_key},
};

/// The key of how many partitions the positions are of.
const LAYOUT: &str = "process.partitions";

/// The partitions that this instance owns.
pub(super) struct Ownership {
    nats: Nats,
    me: String,
    count: u16,
    directory: Directory,
    positions: Bucket,
    /// Nothing where the broker has one writer, who has everything.
    layout: Option<Layout>,
    held: BTreeMap<u16, Lease>,
}

/// What a session is to write, and where its positions are.
#[derive(Clone)]
pub(super) struct Owned {
    pub(super) partitions: Partitions,
    pub(super) positions: Arc<dyn PositionStore>,
}

/// The partitions cannot be agreed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Broker(#[from] nats::BrokerError),
}

impl Ownership {
    /// Joins those who share so many partitions, or as many as the broker can; nothing is owned yet.
    pub(super) async fn join(context: &Context, wanted: u16) -> Result<Self, BucketError> {
        let nats = context.nats.clone();
        let directory = Directory::follow(&nats).await?;
        let count = context.broker.partitions(wanted);
        let positions = nats.positions().await?;
        let layout = count
            .map(|_| Layout { positions: positions.clone(), broker: Arc::clone(&context.broker) });
        let (me, count) = (context.instance.to_string(), count.unwrap_or(1));
        Ok(Self { nats, me, count, directory, positions, layout, held: BTreeMap::new() })
    }

    /// Where it is noted what processes have ended with.
    pub(super) fn notes(&self) -> Arc<dyn NoteStore> {
        Arc::new(PositionBucket(self.positions.clone()))
    }

    /// Nothing is ours.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is ours; nothing where the broker has one writer.
    pub(super) fn owned(&self) -> Option<Owned> {
        let layout = self.layout.as_ref()?;
        let partitions = Partitions { own: self.held.keys().copied().collect(), count: self.count };
        info!(own = ?partitions.own, of = partitions.count, "processing partitions");
        Some(Owned { partitions, positions: Arc::new(PositionBucket(layout.positions.clone())) })
    }

    /// Gives back what is too much and takes what is free and due to us. To be called while nothing
    /// is processed.
    pub(super) async fn settle(&mut self) -> Result<(), Fault> {
        self.held.retain(|_, lease| !lease.lost().is_cancelled());
        if !self.agrees_on_layout().await? {
            return Ok(());
        }
        let plan = self.plan().await?;
        for partition in plan.release {
            if let Some(lease) = self.held.remove(&partition) {
                lease.release().await;
            }
        }
        for partition in plan.acquire {
            if let Some(lease) = self.nats.try_lease(&lease_key(partition), &self.me).await? {
                self.held.insert(partition, lease);
            }
        }
        Ok(())
    }

    /// How long to wait before anything is looked at again.
    pub(super) fn pace(&self) -> Duration {
        (self.nats.lease_ttl() / 5).min(Duration::from_secs(1))
    }

    /// Returns when something should move.
    pub(super) async fn unbalanced(&self) {
        loop {
            sleep(self.pace()).await;
            match self.plan().await {
                Ok(plan) if plan.is_empty() => {}
                Ok(_) => return,
                Err(error) => debug!(%error, "the holders of the partitions are not known"),
            }
        }
    }

    /// Returns when one of ours is lost.
    pub(super) async fn lost(&self) {
        let leases = self.held.values().map(|lease| Box::pin(lease.lost().cancelled()));
        match self.held.is_empty() {
            true => pending().await,
            false => drop(select_all(leases).await),
        }
    }

    /// Gives all back.
    pub(super) async fn release(&mut self) {
        for (_, lease) in std::mem::take(&mut self.held) {
            lease.release().await;
        }
    }

    async fn plan(&self) -> Result<Plan, BucketError> {
        let keys: Vec<_> = (0..self.count).map(lease_key).collect();
        let mut holders = self.nats.holders(&keys).await?;
        for (partition, holder) in (0..).zip(&mut holders) {
            // Our name on a lease that is not ours any more is somebody else's.
            let is_mine = holder.as_deref() == Some(&*self.me);
            if is_mine && !self.held.contains_key(&partition) {
                *holder = Some(String::new());
            }
        }
        let live = self.directory.instances("lizards-process");
        let live: BTreeSet<_> = live.into_iter().map(|instance| instance.instance).collect();
        Ok(Plan::make(&self.me, &holders, &live))
    }

    /// Whether there are as many partitions as we think, made so where nobody has one.
    async fn agrees_on_layout(&mut self) -> Result<bool, Fault> {
        let Some(layout) = &self.layout else { return Ok(true) };
        let Some((before, revision)) = layout.count().await? else {
            let created = layout.positions.create(LAYOUT, self.count.to_string().into()).await?;
            return Ok(created.is_some());
        };
        if before == self.count {
            return Ok(true);
        }
        // With all leases nobody else processes.
        for partition in 0..before.max(self.count) {
            match self.nats.try_lease(&lease_key(partition), &self.me).await? {
                Some(lease) => drop(self.held.insert(partition, lease)),
                None => {
                    warn!(
                        before,
                        now = self.count,
                        "process.partitions has changed; waiting until all who process with the \
                         number before have stopped"
                    );
                    self.release().await;
                    return Ok(false);
                }
            }
        }
        layout.change(before, self.count, revision).await?;
        info!(before, now = self.count, "the partitions are cut anew");
        for (_, lease) in self.held.split_off(&self.count) {
            lease.release().await;
        }
        Ok(true)
    }
}

/// The lease of a partition.
pub(super) fn lease_key(partition: u16) -> String {
    format!("process.{partition}")
}

/// How many partitions there are by the bucket `positions`, and its revision, once there is one.
pub(super) async fn agreed_count(positions: &Bucket) -> Result<Option<(u16, u64)>, BucketError> {
    let found = positions.get(LAYOUT).await?;
    Ok(found.and_then(|(value, revision)| {
        let count = std::str::from_utf8(&value).ok()?.parse().ok()?;
        Some((count, revision))
    }))
}

/// How many partitions there are, as all instances see it.
struct Layout {
    positions: Bucket,
    broker: Arc<dyn Broker>,
}

impl Layout {
    /// The number and its revision, once there is one.
    async fn count(&self) -> Result<Option<(u16, u64)>, BucketError> {
        agreed_count(&self.positions).await
    }

    /// Turns the positions of `before` partitions into those of `now`.
    async fn change(&self, before: u16, now: u16, revision: u64) -> Result<(), Fault> {
        // Whoever stalled with a partition that will not be opened again is fenced here.
        let count = before.max(now);
        let all = Partitions { own: (0..count).collect(), count };
        drop(self.broker.partition_publisher(&[Stream::Ticks, Stream::Rejected], &all).await?);
        let store = PositionBucket(self.positions.clone());
        let mut positions = Vec::new();
        for partition in 0..before {
            positions.push(store.load(partition).await?.0);
        }
        let position = common(&positions);
        let value = Bytes::from(serde_json::to_vec(&position).unwrap_or_default());
        for partition in 0..now {
            self.positions.put(&key(partition), value.clone()).await?;
        }
        for partition in now..before {
            self.positions.delete(&key(partition), None).await?;
        }
        for partition in 0..before {
            self.positions.delete(&note_key(Some(partition)), None).await?;
        }
        self.positions.update(LAYOUT, now.to_string().into(), revision).await?;
        Ok(())
    }
}

/// A position that is true of the symbols of all these partitions together.
fn common(positions: &[Position]) -> Position {
    let least = |of: fn(&Position) -> u64| positions.iter().map(of).min().unwrap_or_default();
    let raw = least(|position| position.raw);
    // Of one that is further, what is stored after `raw` may stand anywhere.
    if positions.iter().any(|position| position.raw > raw) {
        return Position { raw, ticks: 0, rejected: 0 };
    }
    Position { raw, ticks: least(|at| at.ticks), rejected: least(|at| at.rejected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_position_overlooks_nothing() {
        let at = |raw, ticks, rejected| Position { raw, ticks, rejected };
        assert_eq!(common(&[at(9, 5, 2), at(9, 4, 3)]), at(9, 4, 2));
        assert_eq!(common(&[at(9, 5, 2), at(7, 6, 3)]), at(7, 0, 0));
        assert_eq!(common(&[]), at(0, 0, 0));
    }
}
