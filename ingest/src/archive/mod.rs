//! The raw archive: keeps every message of `TICKS_RAW`, byte for byte, beyond the life of the
//! stream.
//!
//! One instance at a time archives, by the lease `archive`. It acknowledges a message only after
//! the store has it durably, so nothing is lost when a process or the store dies; what is written
//! twice because of that is stored once, because a record is known by its message id.

mod config;
mod metrics;
#[cfg(feature = "mongodb")]
mod mongo;
mod record;
mod selection;
mod sqlite;
mod store;
mod transfer;
mod worker;

use std::path::Path;

use service::{Check, Context};
use tracing::info;

pub use config::ArchiveConfig;
pub use record::RawRecord;
pub use selection::{Order, Place, Selection};
pub use store::{RawStore, StoreError, open, open_to_read};

use config::Where;

/// The archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A key of the configuration has a value that cannot be used.
    #[error("ingest.archive.{key}: {fault}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with its value; never the value itself, which may hold a password.
        fault: String,
    },
    /// The store does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Archives until shutdown. `check` says whether the archive keeps up.
///
/// Only a configuration that cannot work is an error: a store or a broker that is down is waited
/// for, and disturbs nothing else of the process.
pub async fn run(
    config: ArchiveConfig,
    data_dir: &Path,
    context: Context,
    check: Check,
) -> Result<(), ArchiveError> {
    metrics::describe();
    if config.place()? == Where::Nowhere {
        info!("the raw archive is off");
        check.pass();
        context.shutdown.cancelled().await;
        return Ok(());
    }
    match worker::open_until_it_works(&config, data_dir, &context.shutdown, &check).await? {
        Some(store) => worker::Worker { store, context, check }.run().await,
        None => info!("stopped before the raw store could be opened"),
    }
    Ok(())
}
