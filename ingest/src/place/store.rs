//! Where places are kept: in the bucket `positions`, as `ingest.<source>`.

use async_trait::async_trait;
use bytes::Bytes;
use nats::{BrokerError, Bucket, BucketError, Nats};
use schemas::{Source, subject};
use tokio::sync::OnceCell;

use super::Place;

/// What a store has of a source.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) place: Option<Place>,
    /// Of the place, while there is one.
    pub(crate) revision: Option<u64>,
}

/// Where the place of a source is kept.
#[async_trait]
pub(crate) trait PlaceStore: Send + Sync {
    async fn load(&self) -> Result<Saved, BrokerError>;

    /// Saves the place over what is `saved`, and tells that there; whether that was still so.
    async fn save(&self, place: &Place, saved: &mut Saved) -> Result<bool, BrokerError>;
}

/// The bucket, opened when it is needed.
pub(crate) struct PlaceBucket {
    nats: Nats,
    key: String,
    bucket: OnceCell<Bucket>,
}

impl PlaceBucket {
    pub(crate) fn new(nats: &Nats, source: &Source) -> Self {
        let key = format!("ingest.{}", subject::key_of(source));
        Self { nats: nats.clone(), key, bucket: OnceCell::new() }
    }

    async fn bucket(&self) -> Result<&Bucket, BrokerError> {
        self.bucket.get_or_try_init(|| self.nats.positions()).await.map_err(unreachable)
    }
}

#[async_trait]
impl PlaceStore for PlaceBucket {
    async fn load(&self) -> Result<Saved, BrokerError> {
        let Some((value, revision)) =
            self.bucket().await?.get(&self.key).await.map_err(unreachable)?
        else {
            return Ok(Saved::default());
        };
        let place = serde_json::from_slice(&value).map_err(|fault| {
            BrokerError::Refused(format!("{} in the bucket positions: {fault}", self.key))
        })?;
        Ok(Saved { place: Some(place), revision: Some(revision) })
    }

    async fn save(&self, place: &Place, saved: &mut Saved) -> Result<bool, BrokerError> {
        let bucket = self.bucket().await?;
        // Texts and numbers always become JSON.
        let value = Bytes::from(serde_json::to_vec(place).unwrap_or_default());
        let revision = match saved.revision {
            Some(revision) => bucket.update(&self.key, value, revision).await,
            None => bucket.create(&self.key, value).await,
        };
        let revision = revision.map_err(unreachable)?;
        if revision.is_some() {
            *saved = Saved { place: Some(place.clone()), revision };
        }
        Ok(revision.is_some())
    }
}

fn unreachable(fault: BucketError) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}
