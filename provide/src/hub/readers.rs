//! How many replays read the stream at the same time.

use std::{sync::Arc, time::Duration};

use nats::{Broker, BrokerError, Reader, Start, topology::Stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::pages::Pages;

/// How many replays of one instance may read the stream at once; the others queue, first come,
/// first served. What reads from the hub's memory does not count.
const PLACES: usize = 32;

/// How long a replay may read while others queue.
const TURN: Duration = Duration::from_secs(2);

/// The places from which replays read the stream.
pub(crate) struct Readers {
    broker: Arc<dyn Broker>,
    places: Arc<Semaphore>,
    pages: Pages,
}

/// A place that is taken; it is free again when this is dropped.
pub(super) struct Place {
    broker: Arc<dyn Broker>,
    permit: OwnedSemaphorePermit,
}

/// A reader of the stream in its place.
pub(super) struct Seated {
    pub(super) reader: Box<dyn Reader>,
    permit: OwnedSemaphorePermit,
    since: Instant,
}

impl Readers {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        let pages = Pages::new(Arc::clone(&broker));
        Self { broker, places: Arc::new(Semaphore::new(PLACES)), pages }
    }

    /// What all share that are not far behind; it needs no place.
    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Queues for a place.
    pub(super) async fn place(&self) -> Result<Place, BrokerError> {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        // They are never closed.
        let permit = permit.map_err(|fault| BrokerError::Unreachable(fault.to_string()))?;
        Ok(Place { broker: Arc::clone(&self.broker), permit })
    }
}

impl Place {
    pub(super) fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    pub(super) async fn read(
        self,
        subjects: &[String],
        start: Start,
    ) -> Result<Seated, BrokerError> {
        let reader = self.broker.reader(Stream::Ticks, subjects, start).await?;
        Ok(Seated { reader, permit: self.permit, since: Instant::now() })
    }
}

impl Seated {
    /// Has it read long enough, seeing that no place is free?
    pub(super) fn is_over(&self) -> bool {
        self.since.elapsed() >= TURN && self.permit.semaphore().available_permits() == 0
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("free", &self.places.available_permits()).finish()
    }
}
