//! How far a source that is played only once has been published, beyond what the stream keeps.
//!
//! Where the stream still has a message of the source, the newest tells the place. But a stream drops
//! what is too old or too much, and then the place is what the bucket `positions` says. Publishing
//! only notes the place, from receipts; it is saved beside that, each second and when a session ends.
//! So what was stored in the last second before a crash is published again where the stream has
//! dropped all of it before anybody comes back, and forgotten its ids.

mod store;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use nats::{Broker, BrokerError, topology::Stream};
use schemas::Source;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

pub(crate) use store::PlaceBucket;
use store::{PlaceStore, Saved};

/// How long a place that moves is not saved again.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How long saving may hold up the end of a session.
const SAVE_WITHIN: Duration = Duration::from_secs(2);

/// The newest message of a source that is known to be stored, or to have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Its message id.
    pub(crate) id: String,
    /// A sequence that `TICKS_RAW` had come to by then: where it has not, it is another stream. 0
    /// where the broker does not say.
    pub(crate) sequence: u64,
}

/// Keeps the place of one source. Publishing tells it how far it is, and waits for nobody.
pub(crate) struct Keeper {
    source: Source,
    newest: watch::Sender<Option<Place>>,
    store: Box<dyn PlaceStore>,
    saved: Mutex<Saved>,
}

impl Keeper {
    pub(crate) fn new(source: &Source, store: Box<dyn PlaceStore>) -> Self {
        let (newest, _) = watch::channel(None);
        Self { source: source.clone(), newest, store, saved: Mutex::default() }
    }

    /// The place to go on from, now that we own the source: `stored` is the id of the newest message
    /// of it that the broker has. Where that has none, the place is the one that was saved, or that
    /// we know ourselves, unless it is of another stream.
    pub(crate) async fn begin(
        &self,
        broker: &Arc<dyn Broker>,
        stored: Option<String>,
    ) -> Result<Option<String>, BrokerError> {
        let reached = broker.state(Stream::Raw).await?.last_sequence;
        let mut saved = self.saved.lock().await;
        *saved = self.store.load().await?;
        let known = self.newest.borrow().clone();
        let place = match stored {
            Some(id) => Some(Place { id, sequence: reached }),
            None => [saved.place.clone(), known]
                .into_iter()
                .flatten()
                .filter(|place| place.sequence <= reached)
                .max_by_key(|place| place.sequence)
                .inspect(|place| {
                    let (source, place) = (&self.source, &place.id);
                    info!(%source, place, "the broker has had messages of this source");
                }),
        };
        let id = place.as_ref().map(|place| place.id.clone());
        self.newest.send_replace(place);
        Ok(id)
    }

    /// The broker has everything up to this message; the sequence is 0 where that is not known.
    pub(crate) fn stored(&self, id: &str, sequence: u64) {
        self.newest.send_modify(|newest| match newest {
            Some(place) => {
                id.clone_into(&mut place.id);
                if sequence > 0 {
                    place.sequence = sequence;
                }
            }
            None => *newest = Some(Place { id: id.to_owned(), sequence }),
        });
    }

    /// Saves the place as it moves.
    pub(crate) async fn keep(&self) -> Infallible {
        let mut newest = self.newest.subscribe();
        newest.mark_changed();
        // It is ours, so it does not go.
        while newest.changed().await.is_ok() {
            self.save().await;
            sleep(SAVE_EVERY).await;
        }
        std::future::pending().await
    }

    /// Saves the place at the end of a session, which that does not hold up for long.
    pub(crate) async fn finish(&self) {
        if timeout(SAVE_WITHIN, self.save()).await.is_err() {
            let source = &self.source;
            warn!(%source, "the place was not saved in time");
        }
    }

    /// Saves the place, if it has changed. What fails is left to the next time.
    async fn save(&self) {
        let mut saved = self.saved.lock().await;
        let Some(newest) = self.newest.borrow().clone() else { return };
        if let Err(error) = self.save_over(&mut saved, &newest).await {
            let source = &self.source;
            warn!(%source, %error, "the place cannot be saved");
        }
    }

    /// Never goes back behind what another instance has saved since, should we have stalled.
    async fn save_over(&self, saved: &mut Saved, newest: &Place) -> Result<(), BrokerError> {
        if saved.place.as_ref() == Some(newest) {
            return Ok(());
        }
        if self.store.save(newest, saved).await? {
            return Ok(());
        }
        // Or it was we, and did not hear of it.
        *saved = self.store.load().await?;
        let is_behind = saved.place.as_ref().is_some_and(|p| p.sequence > newest.sequence);
        if is_behind || self.store.save(newest, saved).await? {
            return Ok(());
        }
        Err(BrokerError::Refused("others save it, too".to_owned()))
    }
}
