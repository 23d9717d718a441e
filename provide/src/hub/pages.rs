//! The part of the stream just behind the hub's memory, read once for all who resume from there.
//!
//! When an instance restarts, all its clients come back within a moment and ask for what they missed.
//! They are served by pages: fixed runs of sequences that whoever needs one first reads, with all
//! its symbols, and everybody else takes from memory. However many clients come, the broker sees one
//! reader a page.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use nats::{Broker, BrokerError, Start, StreamState, topology::Stream};
use schemas::subject;
use tokio::{sync::Semaphore, time::timeout};

use super::{Frame, frame::Encoder, replay::LOOKBACK};

/// How many sequences a page covers.
pub(super) const PAGE: u64 = 4_096;

/// How many pages are kept: some 60 MB of ticks at most.
const KEPT: u64 = 32;

/// How many pages are read at the same time.
const READING: usize = 4;

/// How long nothing may come while a page is read. What was deleted never comes.
const QUIET: Duration = Duration::from_secs(1);

/// How long the bounds of the stream are believed.
const BELIEVED: Duration = Duration::from_millis(200);

/// A run of ticks, of all symbols, in order.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) frames: Vec<Arc<Frame>>,
    /// Up to this sequence every tick is here.
    pub(super) through: u64,
}

/// The pages that were read lately.
pub(super) struct Pages {
    broker: Arc<dyn Broker>,
    pages: Cache<u64, Arc<Page>>,
    bounds: Cache<(), StreamState>,
    places: Semaphore,
}

impl Pages {
    pub(super) fn new(broker: Arc<dyn Broker>) -> Self {
        Self {
            broker,
            pages: Cache::new(KEPT),
            bounds: Cache::builder().max_capacity(1).time_to_live(BELIEVED).build(),
            places: Semaphore::new(READING),
        }
    }

    /// The bounds of the stream a moment ago.
    pub(super) async fn bounds(&self) -> Result<StreamState, BrokerError> {
        let state = self.bounds.try_get_with((), self.broker.state(Stream::Ticks)).await;
        state.map_err(unreachable)
    }

    /// The page that holds the tick behind a sequence. It may end before its last sequence, where
    /// the stream did when it was read, but not before `needed`.
    pub(super) async fn after(&self, sequence: u64, needed: u64) -> Result<Arc<Page>, BrokerError> {
        let number = sequence / PAGE;
        let end = (number + 1) * PAGE;
        loop {
            let page = self.pages.try_get_with(number, self.read(number)).await;
            let page = page.map_err(unreachable)?;
            if page.through >= needed.min(end) {
                return Ok(page);
            }
            self.pages.invalidate(&number).await;
            // A stream that ends before what was seen of it was made anew: the hub will notice.
            if self.broker.state(Stream::Ticks).await?.last_sequence < needed.min(end) {
                return Ok(page);
            }
        }
    }

    async fn read(&self, number: u64) -> Result<Arc<Page>, BrokerError> {
        // They are never closed.
        let _place = self.places.acquire().await.map_err(unreachable)?;
        let before = number * PAGE;
        let last = self.broker.state(Stream::Ticks).await?.last_sequence.min(before + PAGE);
        let start = Start::Sequence(before.saturating_sub(LOOKBACK) + 1);
        let (mut encoder, mut frames) = (Encoder::default(), Vec::new());
        let mut through = 0;
        let mut reader = self.broker.reader(Stream::Ticks, &[], start).await?;
        while through < last {
            let Ok(next) = timeout(QUIET, reader.next()).await else { break };
            let message = next?;
            through = message.sequence;
            if through <= before {
                if let Some(symbol) = subject::symbol_of_tick(&message.subject) {
                    encoder.seen(&symbol, through);
                }
            } else if through <= last {
                frames.extend(encoder.encode(&message));
            }
        }
        Ok(Arc::new(Page { frames, through: last }))
    }
}

fn unreachable(fault: impl std::fmt::Display) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}
