//! How each source is doing, for `GET /sources/{name}`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemas::http::{SourceState, SourceStatus};
use tracing::info;

use crate::source::Source;

/// How one source is doing.
pub(crate) struct Status(Mutex<SourceStatus>);

impl Status {
    /// Before its first session.
    pub(crate) fn of(source: &dyn Source) -> Self {
        Self(Mutex::new(SourceStatus {
            name: source.name().to_string(),
            url: source.url(),
            state: SourceState::Standby,
            last_success: None,
            last_error: None,
            last_error_at: None,
            published: 0,
        }))
    }

    /// It does something else now.
    pub(crate) fn set(&self, state: SourceState) {
        let mut status = self.lock();
        if status.state != state {
            info!(source = status.name, from = ?status.state, to = ?state, "source");
            status.state = state;
        }
    }

    /// Something went wrong.
    pub(crate) fn failed(&self, error: impl ToString) {
        let mut status = self.lock();
        status.last_error = Some(error.to_string());
        status.last_error_at = Some(Timestamp::now());
    }

    /// A payload is stored.
    pub(crate) fn published(&self) {
        let mut status = self.lock();
        status.published += 1;
        status.last_success = Some(Timestamp::now());
    }

    /// As it is now.
    pub(crate) fn snapshot(&self) -> SourceStatus {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, SourceStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
