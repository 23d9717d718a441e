//! Key-value buckets (ADR-8).

use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use schemas::subject;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{BrokerError, Nats};

/// How long the next entry may take while all of them are read.
const NEXT_ENTRY_WITHIN: Duration = Duration::from_secs(5);

/// A key-value bucket. Cheap to clone.
#[derive(Clone)]
pub struct Bucket(kv::Store);

/// A bucket cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the bucket {bucket} cannot be {action}: {fault}")]
pub struct BucketError {
    bucket: String,
    action: &'static str,
    fault: String,
}

impl From<BucketError> for BrokerError {
    fn from(error: BucketError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// A key got a value, or lost it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value; `None` where it was deleted or its time ran out.
    pub value: Option<Bytes>,
    /// The revision of the change, growing within the bucket.
    pub revision: u64,
    /// Whether its time ran out, rather than that somebody deleted it.
    pub expired: bool,
}

impl Nats {
    /// Opens a bucket, and creates it where it is not there.
    ///
    /// With `time_to_live`, a key goes unless it is written again within that time, and whoever
    /// watches is told (ADR-48, limit markers).
    pub async fn bucket(
        &self,
        name: &str,
        description: &str,
        time_to_live: Option<Duration>,
    ) -> Result<Bucket, BucketError> {
        let config = kv::Config {
            bucket: name.to_owned(),
            description: description.to_owned(),
            history: 1,
            max_age: time_to_live.unwrap_or_default(),
            limit_markers: time_to_live.map(|_| Duration::from_secs(60)),
            num_replicas: self.replicas,
            ..kv::Config::default()
        };
        match self.jetstream.create_or_update_key_value(config).await {
            Ok(store) => Ok(Bucket(store)),
            Err(fault) => Err(BucketError {
                bucket: name.to_owned(),
                action: "opened",
                fault: fault.to_string(),
            }),
        }
    }

    /// The bucket of how far what is read was processed, and what is played was published.
    pub async fn positions(&self) -> Result<Bucket, BucketError> {
        let description = "how far each partition is processed, and each file played";
        self.bucket(subject::POSITIONS, description, None).await
    }

    /// The bucket of what accounts with providers were asked for.
    pub async fn quotas(&self) -> Result<Bucket, BucketError> {
        let description =
            "what each account with a provider was asked for, and who may ask for more";
        self.bucket(subject::QUOTAS, description, None).await
    }

    /// The bucket of the rules that people have set.
    pub async fn alert_rules(&self) -> Result<Bucket, BucketError> {
        let description = "alert rules, with the secrets of their webhooks";
        self.bucket(subject::ALERT_RULES, description, None).await
    }

    /// The bucket of how each rule stands.
    pub async fn alert_state(&self) -> Result<Bucket, BucketError> {
        let description = "how each alert rule stands, and where TICKS is to be read from";
        self.bucket(subject::ALERT_STATE, description, None).await
    }

    /// The bucket of what became of the alerts of each rule that has a webhook.
    pub async fn alert_deliveries(&self) -> Result<Bucket, BucketError> {
        let description = "what became of the newest alerts of each rule with a webhook";
        self.bucket(subject::ALERT_DELIVERIES, description, None).await
    }
}

impl Bucket {
    /// The value of a key and its revision.
    pub async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, BucketError> {
        let entry = self.0.entry(key).await.map_err(|fault| self.fault("read", fault))?;
        Ok(entry
            .filter(|entry| entry.operation == kv::Operation::Put)
            .map(|entry| (entry.value, entry.revision)))
    }

    /// Sets a key, whatever it was.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, BucketError> {
        self.0.put(key, value).await.map_err(|fault| self.fault("written", fault))
    }

    /// Sets a key that has no value; `None` where it has one.
    pub async fn create(&self, key: &str, value: Bytes) -> Result<Option<u64>, BucketError> {
        match self.0.create(key, value).await {
            Ok(revision) => Ok(Some(revision)),
            Err(fault) if fault.kind() == kv::CreateErrorKind::AlreadyExists => Ok(None),
            Err(fault) => Err(self.fault("written", fault)),
        }
    }

    /// Sets a key that is still at this revision; `None` where it is not.
    pub async fn update(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
    ) -> Result<Option<u64>, BucketError> {
        match self.0.update(key, value, revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(fault) if fault.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(fault) => Err(self.fault("written", fault)),
        }
    }

    /// Sets a key that is still at this revision, or has no value where there is none; `None` where that
    /// is not so, and otherwise its new revision.
    pub async fn replace(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BucketError> {
        match revision {
            Some(revision) => self.update(key, value, revision).await,
            None => self.create(key, value).await,
        }
    }

    /// The JSON of a key and its revision. Where it is not what is asked for, that is
    /// [refused](BrokerError::Refused): it does not pass by itself.
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, u64)>, BrokerError> {
        let Some((value, revision)) = self.get(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&value).map_err(|fault| {
            BrokerError::Refused(format!("{key} in the bucket {}: {fault}", self.0.name))
        })?;
        Ok(Some((value, revision)))
    }

    /// [Replaces](Self::replace) a key by JSON.
    pub async fn replace_json(
        &self,
        key: &str,
        value: &impl Serialize,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        let value = serde_json::to_vec(value).map_err(|fault| {
            BrokerError::Refused(format!("{key} for the bucket {}: {fault}", self.0.name))
        })?;
        Ok(self.replace(key, value.into(), revision).await?)
    }

    /// Takes the value from a key, if it is still at this revision where one is given.
    pub async fn delete(&self, key: &str, revision: Option<u64>) -> Result<(), BucketError> {
        self.0
            .delete_expect_revision(key, revision)
            .await
            .map_err(|fault| self.fault("written", fault))
    }

    /// All keys that have a value, with it and its revision, as they are now.
    pub async fn entries(&self) -> Result<Vec<(String, Bytes, u64)>, BucketError> {
        let fault = |fault: &dyn ToString| self.fault("read", fault.to_string());
        // Not `status()`: that tells how it was when the bucket was opened.
        let info = self.0.stream.get_info().await.map_err(|f| fault(&f))?;
        if info.state.messages == 0 {
            // Whoever watches an empty bucket waits for its first change.
            return Ok(Vec::new());
        }
        let mut watch = self.0.watch_with_history(">").await.map_err(|f| fault(&f))?;
        let mut entries = Vec::new();
        // Written or run out meanwhile, the entry that was to be the last never comes: better an
        // error, after which the caller reads again, than to wait for ever.
        while let Some(entry) = timeout(NEXT_ENTRY_WITHIN, watch.next())
            .await
            .map_err(|_| fault(&"it changes while it is read"))?
        {
            let entry = entry.map_err(|f| fault(&f))?;
            let is_last = entry.delta == 0;
            if entry.operation == kv::Operation::Put {
                entries.push((entry.key, entry.value, entry.revision));
            }
            if is_last {
                break;
            }
        }
        Ok(entries)
    }

    /// All keys that have a value, then every change, live.
    pub async fn watch(
        &self,
    ) -> Result<impl Stream<Item = Result<Change, BucketError>> + Send + Unpin + use<>, BucketError>
    {
        let bucket = self.0.name.clone();
        let changes =
            self.0.watch_with_history(">").await.map_err(|fault| self.fault("watched", fault))?;
        Ok(changes.map(move |change| match change {
            Ok(entry) => Ok(Change {
                key: entry.key,
                value: (entry.operation == kv::Operation::Put).then_some(entry.value),
                revision: entry.revision,
                // The marker of a maximal age; a deletion says that it is one.
                expired: entry.operation == kv::Operation::Purge,
            }),
            Err(fault) => Err(BucketError {
                bucket: bucket.clone(),
                action: "watched",
                fault: fault.to_string(),
            }),
        }))
    }

    fn fault(&self, action: &'static str, fault: impl ToString) -> BucketError {
        BucketError { bucket: self.0.name.clone(), action, fault: fault.to_string() }
    }
}

#[cfg(test)]
impl BucketError {
    /// Some error.
    pub(crate) fn test() -> Self {
        Self { bucket: "b".into(), action: "written", fault: "it does not answer".into() }
    }
}
