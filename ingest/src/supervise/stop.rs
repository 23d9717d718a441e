//! When a source is to stop, and why it did.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// When a source is to stop.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a> {
    /// Stop fetching, and publish what was fetched.
    pub(super) shutdown: &'a CancellationToken,
    /// How long that may take.
    pub(super) drain_within: Duration,
    /// Other slices are to be fetched: stop fetching, and publish what was fetched.
    pub(super) moved: &'a CancellationToken,
    /// Another instance may own something of it now: stop at once.
    pub(super) lost: &'a CancellationToken,
}

impl Stop<'_> {
    /// Returns when it is to stop, and says why.
    pub(super) async fn asked(&self) -> End {
        tokio::select! {
            () = self.shutdown.cancelled() => End::Shutdown,
            () = self.lost.cancelled() => End::Lost,
            () = self.moved.cancelled() => End::Moved,
        }
    }

    /// The time to drain after a shutdown is over.
    pub(super) async fn drained(&self) {
        self.shutdown.cancelled().await;
        sleep(self.drain_within).await;
    }
}

/// Why a session ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The source has nothing more.
    Finished,
    /// The process stops.
    Shutdown,
    /// Other slices are ours, or are to be.
    Moved,
    /// A lease is lost.
    Lost,
}
