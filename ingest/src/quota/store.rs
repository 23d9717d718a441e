//! Where the records of accounts are kept: in the bucket `quotas`.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use nats::{BrokerError, Bucket, BucketError, Nats};
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
        self.bucket.get_or_try_init(|| self.nats.quotas()).await.map_err(unreachable)
    }
}

#[async_trait]
impl QuotaStore for QuotaBucket {
    fn now_ms(&self) -> i64 {
        Timestamp::now().as_millisecond()
    }

    async fn load(&self) -> Result<(Record, Option<u64>), BrokerError> {
        let found = self.bucket().await?.get(&self.key).await.map_err(unreachable)?;
        let Some((value, revision)) = found else { return Ok((Record::default(), None)) };
        let record = serde_json::from_slice(&value).map_err(|fault| {
            BrokerError::Refused(format!("{} in the bucket quotas: {fault}", self.key))
        })?;
        Ok((record, Some(revision)))
    }

    async fn save(
        &self,
        record: &Record,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        let bucket = self.bucket().await?;
        // Texts and numbers always become JSON.
        let value = Bytes::from(serde_json::to_vec(record).unwrap_or_default());
        let saved = match revision {
            Some(revision) => bucket.update(&self.key, value, revision).await,
            None => bucket.create(&self.key, value).await,
        };
        saved.map_err(unreachable)
    }
}

fn unreachable(fault: BucketError) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}
