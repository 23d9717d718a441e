//! The other instances: who owns what, and how one is asked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use nats::{BucketError, Nats, RequestError, ServiceRequest};
use schemas::subject;
use service::Context;

use crate::engine::owners::Owners;

/// The other instances, as a dry run sees them.
#[async_trait]
pub(crate) trait Others: Send + Sync {
    /// In how many partitions the symbols are cut.
    async fn count(&self) -> Result<u16, BucketError>;

    /// The instance that owns each of these partitions; `None` where nobody does at present.
    async fn holders(&self, partitions: &[u16]) -> Result<Vec<Option<String>>, BucketError>;

    /// The answer of an instance, within so much time.
    async fn ask(
        &self,
        instance: &str,
        question: ServiceRequest,
        patience: Duration,
    ) -> Result<Bytes, RequestError>;
}

/// Those at the same NATS.
pub(crate) struct Instances {
    owners: Owners,
    nats: Nats,
}

impl Instances {
    /// Those who share `wanted` partitions, or as many as they have begun with.
    pub(crate) fn new(context: &Context, wanted: u16) -> Arc<Self> {
        Arc::new(Self { owners: Owners::new(context, wanted), nats: context.nats.clone() })
    }
}

#[async_trait]
impl Others for Instances {
    async fn count(&self) -> Result<u16, BucketError> {
        self.owners.count().await
    }

    async fn holders(&self, partitions: &[u16]) -> Result<Vec<Option<String>>, BucketError> {
        self.owners.holders(partitions).await
    }

    async fn ask(
        &self,
        instance: &str,
        question: ServiceRequest,
        patience: Duration,
    ) -> Result<Bytes, RequestError> {
        self.nats.request(&subject::dry_run_of(instance), question, patience).await
    }
}

/// Why the memory that some symbols are judged by could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Unasked {
    #[error("who owns their partitions is not known: {0}")]
    Unknown(String),
    #[error("no instance owns their partitions at present")]
    NoOwner,
    #[error("instance {0} owns their partitions, but does not answer: it has gone, or only begins")]
    Gone(String),
    #[error("instance {0} owns their partitions, but did not answer in time")]
    Late(String),
    #[error("instance {0} owns their partitions, but is asked too much")]
    Busy(String),
    #[error("instance {0} owns their partitions, but does not process them at present")]
    Idle(String),
    #[error("instance {0} owns their partitions, but finds other events in this payload")]
    Otherwise(String),
    #[error("instance {instance} owns their partitions, but has no answer: {fault}")]
    Failed { instance: String, fault: String },
}

impl Unasked {
    /// By how the request failed.
    pub(super) fn by(instance: &str, fault: RequestError) -> Self {
        let instance = instance.to_owned();
        match fault {
            RequestError::Nobody(_) => Self::Gone(instance),
            RequestError::Refused(refused) if refused.code == 429 => Self::Busy(instance),
            RequestError::Refused(refused) => Self::Failed { instance, fault: refused.reason },
            RequestError::Lost(fault) => Self::Failed { instance, fault: fault.to_string() },
        }
    }

    /// It may be otherwise in a moment, as when partitions move.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::NoOwner | Self::Gone(_) | Self::Busy(_) | Self::Idle(_)
        )
    }
}
