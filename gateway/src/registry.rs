//! What the gateway needs of the registry, narrow enough for a test to stand in.

use async_trait::async_trait;
use nats::{BucketError, Directory, Nats};
use schemas::http::Instance;

/// The live instances of all services.
#[async_trait]
pub(crate) trait Registry: Send + Sync + 'static {
    /// The live instances of a service, sorted by name.
    fn instances(&self, service: &str) -> Vec<Instance>;

    /// All live instances, sorted by service and name.
    fn all(&self) -> Vec<Instance>;

    /// Writes an instance for one lease time.
    async fn put(&self, instance: &Instance) -> Result<(), BucketError>;

    /// Takes an instance away; false where it was not there.
    async fn remove(&self, service: &str, instance: &str) -> Result<bool, BucketError>;
}

/// The registry in NATS: reads are answered from a view that follows it.
pub(crate) struct LiveRegistry {
    nats: Nats,
    directory: Directory,
}

impl LiveRegistry {
    pub(crate) async fn follow(nats: &Nats) -> Result<Self, BucketError> {
        Ok(Self { nats: nats.clone(), directory: Directory::follow(nats).await? })
    }
}

#[async_trait]
impl Registry for LiveRegistry {
    fn instances(&self, service: &str) -> Vec<Instance> {
        self.directory.instances(service)
    }

    fn all(&self) -> Vec<Instance> {
        self.directory.all()
    }

    async fn put(&self, instance: &Instance) -> Result<(), BucketError> {
        self.nats.put_instance(instance).await
    }

    async fn remove(&self, service: &str, instance: &str) -> Result<bool, BucketError> {
        self.nats.remove_instance(service, instance).await
    }
}
