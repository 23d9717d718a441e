//! The bounded queue of alerts between the hub and one connection.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::AlertFrame;
use crate::{access::Permit, backlog::Backlog};

/// Follows every rule.
const ALL: &str = "*";

/// What waits for one client, and what it follows. A client that does not take what waits is given
/// up.
#[derive(Debug)]
pub(crate) struct AlertQueue {
    permit: Permit,
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    follows: BTreeSet<String>,
    backlog: Backlog<AlertFrame>,
}

impl AlertQueue {
    /// A queue of at most so many alerts, for a client that may see what its permit covers.
    pub(crate) fn new(capacity: usize, permit: Permit) -> Arc<Self> {
        let inner = Inner { follows: BTreeSet::new(), backlog: Backlog::new(capacity) };
        Arc::new(Self { permit, inner: Mutex::new(inner), wake: Notify::new() })
    }

    /// Adds an alert that the client follows and may see.
    pub(super) fn offer(&self, frame: &Arc<AlertFrame>) {
        let mut inner = self.lock();
        let is_followed = inner.follows.contains(ALL) || inner.follows.contains(&frame.rule);
        let may = self.permit.owns(frame.owner.as_deref()) && self.permit.allows(&frame.symbol);
        if !is_followed || !may {
            return;
        }
        inner.backlog.push(frame);
        self.wake.notify_one();
    }

    /// Follows this rule, too.
    pub(crate) fn follow(&self, rule: String) {
        self.lock().follows.insert(rule);
    }

    /// Follows this rule no longer.
    pub(crate) fn forget(&self, rule: &str) {
        self.lock().follows.remove(rule);
    }

    /// What is followed, sorted.
    pub(crate) fn follows(&self) -> Vec<String> {
        self.lock().follows.iter().cloned().collect()
    }

    /// Takes out at most so many.
    pub(crate) fn take(&self, count: usize) -> Vec<Arc<AlertFrame>> {
        self.lock().backlog.take(count)
    }

    /// Was the client too slow?
    pub(crate) fn has_overflowed(&self) -> bool {
        self.lock().backlog.has_overflowed()
    }

    /// Resolves when something came. Cancel safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
