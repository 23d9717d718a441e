//! The one instance that archives: its store, its lease, its sessions with the broker.

use std::{path::Path, time::Duration};

use nats::{BrokerError, topology};
use service::{Backoff, Check, Context};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    ArchiveConfig, ArchiveError, RawStore,
    metrics::{self, Fault},
    store,
    transfer::Transfer,
};

/// The key of the lease that the one instance that archives holds.
const LEASE: &str = "archive";

/// How long to wait between attempts at whatever fails.
pub(super) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(10))
}

/// Waits; `false` when it is time to stop.
pub(super) async fn pause(backoff: &mut Backoff, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(sleep(backoff.next_delay())).await.is_some()
}

/// Opens the store, however long it takes to be there; `None` when it is time to stop.
pub(super) async fn open_until_it_works(
    config: &ArchiveConfig,
    data_dir: &Path,
    stop: &CancellationToken,
    check: &Check,
) -> Result<Option<Box<dyn RawStore>>, ArchiveError> {
    let mut backoff = backoff();
    loop {
        match stop.run_until_cancelled(store::open(config, data_dir)).await {
            None => return Ok(None),
            Some(Ok(store)) => return Ok(Some(store)),
            Some(Err(ArchiveError::Store(error))) => {
                metrics::failed(Fault::Store);
                check.fail(error.to_string());
                warn!(%error, "the raw store cannot be opened; trying again");
            }
            Some(Err(error)) => return Err(error),
        }
        if !pause(&mut backoff, stop).await {
            return Ok(None);
        }
    }
}

/// Archives while it holds the lease.
pub(super) struct Worker {
    pub(super) store: Box<dyn RawStore>,
    pub(super) context: Context,
    pub(super) check: Check,
}

impl Worker {
    /// Runs until shutdown: the batch in hand is stored and acknowledged, the lease given back.
    pub(super) async fn run(&self) {
        let Context { nats, instance, shutdown, .. } = &self.context;
        let mut backoff = backoff();
        // With an open store it is ready, be it to archive or to stand by.
        self.check.pass();
        loop {
            match shutdown.run_until_cancelled(nats.lease(LEASE, instance)).await {
                None => return,
                Some(Ok(lease)) => {
                    backoff.reset();
                    // Whatever the loss cuts off is done again by the next owner.
                    lease.lost().run_until_cancelled(self.archive()).await;
                    lease.release().await;
                    self.check.pass();
                }
                Some(Err(error)) => self.broker_failed(&error.to_string()),
            }
            if !pause(&mut backoff, shutdown).await {
                return;
            }
        }
    }

    /// Session after session until shutdown.
    async fn archive(&self) {
        let mut backoff = backoff();
        while let Err(error) = self.session(&mut backoff).await {
            self.broker_failed(&error.to_string());
            if !pause(&mut backoff, &self.context.shutdown).await {
                return;
            }
        }
    }

    /// Archives until shutdown or the first error of the broker.
    async fn session(&self, backoff: &mut Backoff) -> Result<(), BrokerError> {
        let Context { broker, shutdown, shutdown_deadline, .. } = &self.context;
        let opening = broker.consumer(&topology::ARCHIVE);
        let Some(consumer) = shutdown.run_until_cancelled(opening).await else { return Ok(()) };
        self.check.pass();
        info!("archiving raw messages");
        let transfer = Transfer {
            store: &*self.store,
            check: &self.check,
            stop: shutdown,
            // The other half is for giving back the lease.
            patience: *shutdown_deadline / 2,
        };
        transfer.run(consumer?.as_mut(), backoff).await
    }

    fn broker_failed(&self, why: &str) {
        metrics::failed(Fault::Broker);
        self.check.fail(why);
        warn!(error = why, "the archive has lost its broker; trying again");
    }
}
