//! What the archive needs of a store, and which one the configuration asks for.

use std::path::Path;

use async_trait::async_trait;

use super::{
    ArchiveConfig, ArchiveError, Order, Place, RawRecord, Selection, config::Where,
    sqlite::SqliteStore,
};

/// A store of raw messages, known by their ids.
#[async_trait]
pub trait RawStore: Send + Sync {
    /// Stores records durably: once this returns, neither a process nor a machine that dies loses one,
    /// as far as its disk keeps its promises.
    ///
    /// A record whose id is stored already is left as it is, so that writing twice is harmless.
    /// After an error some of the records may be stored and others not: store them again.
    async fn store(&self, records: &[RawRecord]) -> Result<(), StoreError>;

    /// The record of that id.
    async fn get(&self, id: &str) -> Result<Option<RawRecord>, StoreError>;

    /// The first records of a selection in this order, at most `limit`; those behind a place where
    /// one is given, so that whoever reads on never reads one twice.
    async fn page(
        &self,
        selection: &Selection,
        order: Order,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<RawRecord>, StoreError>;

    /// How many records there are.
    async fn count(&self) -> Result<u64, StoreError>;
}

/// A store does not answer, or refuses. All of these may pass: try again later.
#[derive(Debug, thiserror::Error)]
#[error("the raw store {store} fails: {fault}")]
pub struct StoreError {
    store: &'static str,
    fault: String,
}

impl StoreError {
    pub(super) fn sqlite(fault: impl ToString) -> Self {
        Self { store: "raw.db", fault: fault.to_string() }
    }

    #[cfg(feature = "mongodb")]
    pub(super) fn mongodb(fault: impl ToString) -> Self {
        Self { store: "MongoDB", fault: fault.to_string() }
    }
}

/// Opens the store that the configuration asks for, with its tables and indexes made.
pub async fn open(
    config: &ArchiveConfig,
    data_dir: &Path,
) -> Result<Box<dyn RawStore>, ArchiveError> {
    match config.place()? {
        Where::Nowhere => Err(nowhere()),
        Where::Sqlite => Ok(Box::new(SqliteStore::open(data_dir, config.max_age()).await?)),
        #[cfg(feature = "mongodb")]
        Where::MongoDb => {
            let (url, database) = (&config.url, &config.database);
            Ok(Box::new(super::mongo::MongoStore::open(url, database, config.max_age()).await?))
        }
    }
}

/// Opens the store that the configuration asks for to read what is there: makes, changes and prunes
/// nothing, so that it disturbs no instance that archives.
pub async fn open_to_read(
    config: &ArchiveConfig,
    data_dir: &Path,
) -> Result<Box<dyn RawStore>, ArchiveError> {
    match config.place()? {
        Where::Nowhere => Err(nowhere()),
        Where::Sqlite => Ok(Box::new(SqliteStore::open_to_read(data_dir).await?)),
        #[cfg(feature = "mongodb")]
        Where::MongoDb => {
            let (url, database) = (&config.url, &config.database);
            Ok(Box::new(super::mongo::MongoStore::open_to_read(url, database).await?))
        }
    }
}

fn nowhere() -> ArchiveError {
    let fault = "it is `none`: there is no archive to open".to_owned();
    ArchiveError::Config { key: "url", fault }
}
