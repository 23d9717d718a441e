//! Where places are kept: in the bucket `positions`, as `ingest.<source>`.

use async_trait::async_trait;
use nats::{BrokerError, Bucket, Nats};
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
        Ok(self.bucket.get_or_try_init(|| self.nats.positions()).await?)
    }
}

#[async_trait]
impl PlaceStore for PlaceBucket {
    async fn load(&self) -> Result<Saved, BrokerError> {
        let (place, revision) = self.bucket().await?.get_json(&self.key).await?.unzip();
        Ok(Saved { place, revision })
    }

    async fn save(&self, place: &Place, saved: &mut Saved) -> Result<bool, BrokerError> {
        let revision = self.bucket().await?.replace_json(&self.key, place, saved.revision).await?;
        if revision.is_some() {
            *saved = Saved { place: Some(place.clone()), revision };
        }
        Ok(revision.is_some())
    }
}
