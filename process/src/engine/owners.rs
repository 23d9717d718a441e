//! Who owns which partitions, for whoever only wants to know whom to ask.

use std::sync::Arc;

use nats::{Broker, BucketError, Nats};
use service::Context;

use super::ownership::{agreed_count, lease_key};

/// Looks up owners.
pub(crate) struct Owners {
    nats: Nats,
    broker: Arc<dyn Broker>,
    wanted: u16,
}

impl Owners {
    /// Of so many partitions, where nobody has begun with another number yet.
    pub(crate) fn new(context: &Context, wanted: u16) -> Self {
        Self { nats: context.nats.clone(), broker: Arc::clone(&context.broker), wanted }
    }

    /// In how many partitions the symbols are cut.
    pub(crate) async fn count(&self) -> Result<u16, BucketError> {
        let Some(wanted) = self.broker.partitions(self.wanted) else { return Ok(1) };
        let agreed = agreed_count(&self.nats.positions().await?).await?;
        Ok(agreed.map_or(wanted, |(count, _)| count))
    }

    /// The instance that holds the lease of each of these partitions; `None` where nobody does.
    pub(crate) async fn holders(
        &self,
        partitions: &[u16],
    ) -> Result<Vec<Option<String>>, BucketError> {
        let keys: Vec<_> = partitions.iter().copied().map(lease_key).collect();
        self.nats.holders(&keys).await
    }
}
