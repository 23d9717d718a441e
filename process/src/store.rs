//! Where one session saves what the next one goes on from.

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use nats::Bucket;

/// Why something could not be loaded or saved.
pub(crate) type StoreFault = Box<dyn Error + Send + Sync>;

/// A bucket with one writer at a time: one that has been replaced finds out.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Every key that has a value, with it and its revision.
    async fn load(&self) -> Result<Vec<(String, Bytes, u64)>, StoreFault>;

    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreFault>;

    /// Sets a key that is still at this revision, or has no value where there is none. `None`
    /// where that is not so; otherwise its new revision.
    async fn save(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, StoreFault>;

    /// Takes the value from a key that is still at this revision; otherwise it is an error.
    async fn delete(&self, key: &str, revision: u64) -> Result<(), StoreFault>;
}

#[async_trait]
impl Store for Bucket {
    async fn load(&self) -> Result<Vec<(String, Bytes, u64)>, StoreFault> {
        Ok(self.entries().await?)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreFault> {
        Ok(Bucket::get(self, key).await?.map(|(value, _)| value))
    }

    async fn save(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, StoreFault> {
        Ok(self.replace(key, value, revision).await?)
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), StoreFault> {
        Ok(Bucket::delete(self, key, Some(revision)).await?)
    }
}
