//! How each source is doing here, for `GET /sources/{name}`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use schemas::{
    Source as Name,
    http::{QuotaLeft, SourceState},
};
use tracing::info;

use crate::report::Condition;

/// How one source is doing here.
pub(crate) struct Status {
    source: Name,
    inner: Mutex<Inner>,
}

struct Inner {
    told: Condition,
    owned: BTreeSet<u16>,
    /// Why what was fetched is not published, while it is not.
    unpublished: Option<String>,
}

impl Status {
    /// Before its first session.
    pub(crate) fn of(source: &Name) -> Self {
        let inner = Inner { told: Condition::default(), owned: BTreeSet::new(), unpublished: None };
        Self { source: source.clone(), inner: Mutex::new(inner) }
    }

    /// These slices of it are fetched here now.
    pub(crate) fn own(&self, slices: BTreeSet<u16>) {
        self.lock().owned = slices;
    }

    /// The slices of it that are fetched here.
    pub(crate) fn owned(&self) -> BTreeSet<u16> {
        self.lock().owned.clone()
    }

    /// It does something else now.
    pub(crate) fn set(&self, state: SourceState) {
        let status = &mut self.lock().told;
        if status.state != state {
            info!(source = %self.source, from = ?status.state, to = ?state, "source");
            status.state = state;
        }
    }

    /// The provider gave something.
    pub(crate) fn heard(&self) {
        self.lock().told.last_heard = Some(Timestamp::now());
    }

    /// So much is left of the provider's quota.
    pub(crate) fn quota(&self, left: QuotaLeft) {
        self.lock().told.quota = Some(left);
    }

    /// Something went wrong.
    pub(crate) fn failed(&self, error: impl ToString) {
        let status = &mut self.lock().told;
        status.last_error = Some(error.to_string());
        status.last_error_at = Some(Timestamp::now());
    }

    /// The broker does not take what was fetched.
    pub(crate) fn publishing_failed(&self, error: impl ToString) {
        let error = error.to_string();
        self.failed(&error);
        self.lock().unpublished = Some(error);
    }

    /// The broker takes what was fetched.
    pub(crate) fn publishing_works(&self) {
        self.lock().unpublished = None;
    }

    /// Why what was fetched is not published, and of which source, while it is not.
    pub(crate) fn unpublished(&self) -> Option<String> {
        let status = self.lock();
        let why = status.unpublished.as_ref()?;
        Some(format!("{}: {why}", self.source))
    }

    /// A payload is stored.
    pub(crate) fn published(&self) {
        let status = &mut self.lock().told;
        status.published += 1;
        status.last_success = Some(Timestamp::now());
    }

    /// As it is now. A source that fetches what cannot be published is not running.
    pub(crate) fn snapshot(&self) -> Condition {
        let status = self.lock();
        let mut told = status.told.clone();
        if status.unpublished.is_some() && told.state == SourceState::Running {
            told.state = SourceState::BackingOff;
        }
        told
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
