//! The leases of this process. What is asked at one host has one lease, whatever sources it is of, so
//! sources share it: it is given back by the last of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nats::{BucketError, Lease, Nats};
use tokio_util::sync::CancellationToken;

/// All of them.
#[derive(Default)]
pub(crate) struct Leases(Mutex<Held>);

#[derive(Default)]
struct Held {
    leases: BTreeMap<String, Shared>,
    /// How many were taken.
    number: u64,
}

struct Shared {
    lease: Lease,
    /// Tells it from one of the same key that was lost.
    number: u64,
    claims: usize,
}

/// The right to what a lease is for, as long as that is not lost.
pub(crate) struct Claim {
    leases: Arc<Leases>,
    key: String,
    number: u64,
    lost: CancellationToken,
}

impl Leases {
    /// Takes the lease, or shares it where it is ours; nothing where it is another's.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        nats: &Nats,
        key: &str,
        holder: &str,
    ) -> Result<Option<Claim>, BucketError> {
        if let Some(claim) = self.share(key) {
            return Ok(Some(claim));
        }
        let Some(lease) = nats.try_lease(key, holder).await? else { return Ok(None) };
        let held = &mut *self.held();
        held.number += 1;
        let mut shared = Shared { lease, number: held.number, claims: 0 };
        let claim = self.of(key, &mut shared);
        // What it replaces is lost: it could not be taken else.
        held.leases.insert(key.to_owned(), shared);
        Ok(Some(claim))
    }

    fn share(self: &Arc<Self>, key: &str) -> Option<Claim> {
        let mut held = self.held();
        let shared = held.leases.get_mut(key)?;
        (!shared.lease.lost().is_cancelled()).then(|| self.of(key, shared))
    }

    fn of(self: &Arc<Self>, key: &str, shared: &mut Shared) -> Claim {
        shared.claims += 1;
        let (number, lost) = (shared.number, shared.lease.lost().clone());
        Claim { leases: Arc::clone(self), key: key.to_owned(), number, lost }
    }

    /// Lets go of a claim; the lease, where it was the last one.
    fn drop_claim(&self, key: &str, number: u64) -> Option<Lease> {
        let mut held = self.held();
        let shared = held.leases.get_mut(key).filter(|shared| shared.number == number)?;
        shared.claims -= 1;
        if shared.claims > 0 {
            return None;
        }
        held.leases.remove(key).map(|shared| shared.lease)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Cancelled when the lease is lost: stop at once.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Gives it back, so that the next owner need not wait for its time to run out.
    pub(crate) async fn release(mut self) {
        let number = std::mem::take(&mut self.number);
        if let Some(lease) = self.leases.drop_claim(&self.key, number) {
            lease.release().await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Lets it run out, unless it was given back.
        drop(self.leases.drop_claim(&self.key, self.number));
    }
}
