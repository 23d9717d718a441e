//! How many connections are open.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use service::Problem;
use tokio::sync::watch;

use crate::metrics::{self, Refused};

/// Counts the open connections. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    open: Arc<watch::Sender<u64>>,
    load: Arc<AtomicU64>,
}

/// One open connection; it counts until dropped.
pub(crate) struct Guard(Connections);

impl Connections {
    /// The count as the registry reads it.
    pub(crate) fn load(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.load)
    }

    /// Resolves when none is open.
    pub(crate) async fn closed(&self) {
        // The sender lives in `self`, so this ends only when the count is 0.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// One more, of at most so many.
    pub(crate) fn enter(&self, max: u64) -> Result<Guard, Problem> {
        let mut is_full = false;
        self.count(|open| {
            is_full = open >= max;
            if is_full { open } else { open + 1 }
        });
        if is_full {
            metrics::refused(Refused::Full);
            return Err(Problem::unavailable("as many clients are connected here as may be"));
        }
        Ok(Guard(self.clone()))
    }

    fn count(&self, change: impl FnOnce(u64) -> u64) {
        self.open.send_modify(|open| {
            *open = change(*open);
            self.load.store(*open, Ordering::Relaxed);
            metrics::connections(*open);
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.count(|open| open.saturating_sub(1));
    }
}
