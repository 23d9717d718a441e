//! Where the records of accounts are kept: in the bucket `quotas`.

use async_trait::async_trait;
use jiff::Timestamp;
use nats::{BrokerError, Bucket, Nats};
use schemas::{Source, subject};
use tokio::sync::OnceCell;

use super::record::Record;

/// Where the record of an account is kept, for all instances.
#[async_trait]
pub(crate) trait QuotaStore: Send + Sync {
    /// The time that all instances count by, in milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// The record and its revision; an empty one without where there is none.
    async fn load(&self) -> Result<(Record, Option<u64>), BrokerError>;

    /// Saves the record over that revision: its own; nothing where another is there.
    async fn save(
        &self,
        record: &Record,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError>;
}

/// The bucket, opened when it is needed.
pub(crate) struct QuotaBucket {
    nats: Nats,
    key: String,
    bucket: OnceCell<Bucket>,
}

impl QuotaBucket {
    /// Of an account with the provider that a source asks.
    pub(crate) fn new(nats: &Nats, source: &Source, account: Option<&str>) -> Self {
        let source = subject::key_of(source);
        let key = account.map_or_else(|| source.clone(), |account| format!("{source}.{account}"));
        Self { nats: nats.clone(), key, bucket: OnceCell::new() }
    }

    async fn bucket(&self) -> Result<&Bucket, BrokerError> {
        Ok(self.bucket.get_or_try_init(|| self.nats.quotas()).await?)
    }
}

#[async_trait]
impl QuotaStore for QuotaBucket {
    fn now_ms(&self) -> i64 {
        Timestamp::now().as_millisecond()
    }

    async fn load(&self) -> Result<(Record, Option<u64>), BrokerError> {
        let (record, revision) = self.bucket().await?.get_json(&self.key).await?.unzip();
        Ok((record.unwrap_or_default(), revision))
    }

    async fn save(
        &self,
        record: &Record,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        self.bucket().await?.replace_json(&self.key, record, revision).await
    }
}
