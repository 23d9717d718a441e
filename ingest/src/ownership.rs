//! Which slices of a source are ours, by leases.
//!
//! What should be ours is decided by [`sharing`](crate::sharing). Slices are given back only between
//! sessions, when everything that was fetched of them is published: so the next owner's comes after
//! it. Sources that ask one host share its lease, so they have one owner even while they move from one
//! to another.
//!
//! **While the broker is away** nobody can have a lease. A lease that cannot be renewed is lost, but
//! whoever can spool goes on fetching what was its own, and asks for the lease again until the broker
//! gives it, or says that another instance has it. Should two fetch for that moment, their payloads
//! have the same message ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use futures_util::future::select_all;
use nats::BucketError;
use schemas::{Source as Name, subject};
use service::Context;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    leases::{Claim, Leases},
    source::Source,
};

/// How often a slice that is due to us is tried to be taken, at least.
const PACE: Duration = Duration::from_secs(1);

/// The slices of a source that this instance owns.
pub(crate) struct Ownership {
    context: Context,
    source: Name,
    is_divided: bool,
    /// The host that has one owner.
    host: Option<String>,
    leases: Arc<Leases>,
    due: watch::Receiver<BTreeSet<u16>>,
    held: BTreeMap<u16, Claim>,
}

/// What has become of the slices that are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// More are ours.
    Gained,
    /// Some are to be given back.
    Due,
    /// Another instance has some of them, or may have.
    Lost,
}

impl Ownership {
    /// Nothing is ours yet; `due` are the slices that should be.
    pub(crate) fn new(
        context: &Context,
        source: &dyn Source,
        leases: &Arc<Leases>,
        due: watch::Receiver<BTreeSet<u16>>,
    ) -> Self {
        Self {
            context: context.clone(),
            source: source.name().clone(),
            is_divided: source.divides(),
            host: source.host(),
            leases: Arc::clone(leases),
            due,
            held: BTreeMap::new(),
        }
    }

    /// What is ours.
    pub(crate) fn slices(&self) -> BTreeSet<u16> {
        self.held.keys().copied().collect()
    }

    /// Whether something is ours that is not due to us any more.
    pub(crate) fn gives_back(&self) -> bool {
        let due = self.due.borrow();
        self.held.keys().any(|slice| !due.contains(slice))
    }

    /// Gives back what is not due to us any more. To be called when everything that was fetched is
    /// published.
    pub(crate) async fn settle(&mut self) {
        let due = self.due.borrow().clone();
        let held = std::mem::take(&mut self.held);
        for (slice, lease) in held {
            if due.contains(&slice) {
                self.held.insert(slice, lease);
            } else {
                info!(source = %self.source, slice, "given to another instance");
                lease.release().await;
            }
        }
    }

    /// What was lost is not ours.
    pub(crate) fn forget_lost(&mut self) {
        self.held.retain(|_, lease| !lease.lost().is_cancelled());
    }

    /// Gives all back.
    pub(crate) async fn release(&mut self) {
        for (_, lease) in std::mem::take(&mut self.held) {
            lease.release().await;
        }
    }

    /// Returns when other slices are ours, or are to be. Whoever `holds_on` to what is lost loses it
    /// only when another instance has it. An error is that the leases cannot be had.
    pub(crate) async fn changed(&mut self, holds_on: bool) -> Result<Change, BucketError> {
        loop {
            let is_lost = self.held.values().any(|lease| lease.lost().is_cancelled());
            if is_lost && (!holds_on || self.regain().await) {
                return Ok(Change::Lost);
            }
            let due = self.due.borrow_and_update().clone();
            if self.held.keys().any(|slice| !due.contains(slice)) {
                return Ok(Change::Due);
            }
            if self.take(&due).await? {
                return Ok(Change::Gained);
            }
            let lost = self.lost();
            let is_missing = |slice| self.held.get(slice).is_none_or(|l| l.lost().is_cancelled());
            let try_again = async {
                match due.iter().any(is_missing) {
                    true => sleep(PACE.min(self.context.nats.lease_ttl() / 5)).await,
                    false => lost.await,
                }
            };
            tokio::select! {
                Ok(()) = self.due.changed() => {}
                () = try_again => {}
            }
        }
    }

    /// Takes what is due to us and not ours; whether that is something.
    async fn take(&mut self, due: &BTreeSet<u16>) -> Result<bool, BucketError> {
        let before = self.held.len();
        for slice in due.iter().copied() {
            if self.held.contains_key(&slice) {
                continue;
            }
            match self.claim(&self.key(slice)).await {
                Ok(Some(lease)) => drop(self.held.insert(slice, lease)),
                Ok(None) => {}
                // What we have by then is to be fetched all the same.
                Err(_) if self.held.len() > before => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.held.len() > before)
    }

    /// Asks for the leases that were lost; whether another instance has one of them.
    async fn regain(&mut self) -> bool {
        let nats = &self.context.nats;
        let lost = self.held.iter().filter(|(_, lease)| lease.lost().is_cancelled());
        let lost: Vec<u16> = lost.map(|(slice, _)| *slice).collect();
        let mut is_anothers = false;
        for slice in lost {
            let key = self.key(slice);
            match self.claim(&key).await {
                Ok(Some(lease)) => drop(self.held.insert(slice, lease)),
                // Our own runs out by itself.
                Ok(None) => match nats.holders(&[key]).await.as_deref() {
                    Ok([Some(holder)]) if **holder != *self.context.instance => {
                        warn!(source = %self.source, slice, holder, "another instance has taken it");
                        self.held.remove(&slice);
                        is_anothers = true;
                    }
                    _ => {}
                },
                Err(error) => {
                    debug!(source = %self.source, %error, "nobody can have the leases");
                    break;
                }
            }
        }
        is_anothers
    }

    /// Returns when one of those that are ours now is lost.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let tokens: Vec<CancellationToken> =
            self.held.values().map(|lease| lease.lost().clone()).collect();
        async move {
            match tokens.is_empty() {
                true => pending().await,
                false => {
                    let lost = tokens.iter().map(|token| Box::pin(token.cancelled()));
                    drop(select_all(lost).await);
                }
            }
        }
    }

    async fn claim(&self, key: &str) -> Result<Option<Claim>, BucketError> {
        self.leases.claim(&self.context.nats, key, &self.context.instance).await
    }

    fn key(&self, slice: u16) -> String {
        let source = subject::key_of(&self.source);
        match &self.host {
            Some(host) => format!("ingest.host.{}", subject::key_of_host(host)),
            None if self.is_divided => format!("ingest.{source}.{slice}"),
            None => format!("ingest.{source}"),
        }
    }
}
