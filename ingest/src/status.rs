//! How each source is doing, for `GET /sources/{name}`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemas::http::{SourceState, SourceStatus};
use tracing::info;

use crate::source::Source;

/// How one source is doing.
pub(crate) struct Status(Mutex<Inner>);

struct Inner {
    told: SourceStatus,
    /// Why what was fetched is not published, while it is not.
    unpublished: Option<String>,
}

impl Status {
    /// Before its first session.
    pub(crate) fn of(source: &dyn Source) -> Self {
        let told = SourceStatus {
            name: source.name().to_string(),
            url: source.url(),
            state: SourceState::Standby,
            last_success: None,
            last_error: None,
            last_error_at: None,
            published: 0,
        };
        Self(Mutex::new(Inner { told, unpublished: None }))
    }

    /// It does something else now.
    pub(crate) fn set(&self, state: SourceState) {
        let status = &mut self.lock().told;
        if status.state != state {
            info!(source = status.name, from = ?status.state, to = ?state, "source");
            status.state = state;
        }
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
        Some(format!("{}: {why}", status.told.name))
    }

    /// A payload is stored.
    pub(crate) fn published(&self) {
        let status = &mut self.lock().told;
        status.published += 1;
        status.last_success = Some(Timestamp::now());
    }

    /// As it is now. A source that fetches what cannot be published is not running.
    pub(crate) fn snapshot(&self) -> SourceStatus {
        let status = self.lock();
        let mut told = status.told.clone();
        if status.unpublished.is_some() && told.state == SourceState::Running {
            told.state = SourceState::BackingOff;
        }
        told
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
