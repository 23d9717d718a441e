//! What is done with: acknowledged, saved as a position, and drained at the end.

use std::sync::atomic::Ordering;

use nats::{BrokerError, topology::Stream};
use tokio::time::timeout;
use tracing::warn;

use super::{Ended, Session};

impl Session<'_> {
    pub(super) async fn acknowledge(&mut self) -> Result<(), BrokerError> {
        if self.unacknowledged > 0 {
            self.input.acknowledge(self.done).await?;
            self.unacknowledged = 0;
            self.engine.backoff.reset();
            self.engine.load.store(self.pending.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Begins to save how far our partitions are, when it is time.
    pub(super) async fn save(&mut self) -> Result<(), BrokerError> {
        let reached = self.reached();
        let Some(share) = &mut self.share else { return Ok(()) };
        if !share.progress.is_due() || reached <= share.progress.least().raw {
            return Ok(());
        }
        if self.pending.is_empty() {
            // Nothing of ours is on its way: whatever comes will be behind what is there.
            let broker = &*self.engine.broker;
            let last = async |stream: Stream| -> Result<u64, BrokerError> {
                let newest = broker.last(stream, stream.subjects()).await?;
                Ok(newest.map_or(0, |newest| newest.sequence))
            };
            share.stored.ticks = share.stored.ticks.max(last(Stream::Ticks).await?);
            share.stored.rejected = share.stored.rejected.max(last(Stream::Rejected).await?);
        }
        share.progress.save(share.at(reached));
        Ok(())
    }

    /// The last payload up to which all are done with or passed over.
    pub(super) fn reached(&self) -> u64 {
        self.pending.front().map_or(self.seen, |first| first.sequence - 1)
    }

    pub(super) async fn end(mut self) -> Result<Ended, BrokerError> {
        let drained = self.drain().await;
        if self.repeated {
            // An exclusive session may not survive a dropped message: it has ended either way.
            return Ok(Ended::Repeated);
        }
        drained.map(|()| Ended::Stopped)
    }

    /// Waits for what is in flight, and acknowledges what is done with. The rest comes again.
    async fn drain(&mut self) -> Result<(), BrokerError> {
        self.ticks.clear();
        self.rejections.clear();
        let deadline = self.engine.limits.drain_deadline;
        let receipts = async {
            while !self.in_flight.is_empty() {
                let receipt = self.publisher.confirmed().await?;
                self.settle(receipt);
            }
            Ok::<_, BrokerError>(())
        };
        match timeout(deadline, receipts).await {
            Ok(drained) => drained?,
            Err(_) => warn!(
                "receipts were still missing at the deadline; what they are for is looked up at the next start"
            ),
        }
        self.acknowledge().await?;
        let reached = self.reached();
        if let Some(share) = &mut self.share {
            let position = share.at(reached);
            share.progress.finish(position).await?;
        }
        Ok(())
    }
}
