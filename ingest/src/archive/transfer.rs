//! From a consumer to a store, batch by batch; acknowledged is what the store has.

use std::time::Duration;

use nats::{BrokerError, Consumer, Message};
use service::{Backoff, Check};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    RawRecord, RawStore,
    metrics::{self, Fault},
    worker::{backoff, pause},
};

/// A batch is written when it has so many messages,
const MAX_MESSAGES: usize = 1_000;
/// or so many bytes of payload (its last message may go over it),
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// or its first message has waited so long.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// A store that has not answered by then has failed.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a transfer needs beside the consumer. One batch is in memory at a time.
pub(super) struct Transfer<'a> {
    pub(super) store: &'a dyn RawStore,
    pub(super) check: &'a Check,
    pub(super) stop: &'a CancellationToken,
    /// How long the store may still take for the batch in hand once it is time to stop.
    pub(super) patience: Duration,
}

impl Transfer<'_> {
    /// Stores what the consumer delivers until it is time to stop or the broker fails. Each batch
    /// acknowledged resets `backoff`.
    pub(super) async fn run(
        &self,
        consumer: &mut dyn Consumer,
        backoff: &mut Backoff,
    ) -> Result<(), BrokerError> {
        while let Some(batch) = self.gather(consumer).await? {
            if !self.keep(&batch.records).await {
                break;
            }
            consumer.acknowledge(batch.last_sequence).await?;
            backoff.reset();
        }
        Ok(())
    }

    /// The next batch; `None` when it is time to stop and there is nothing in hand.
    async fn gather(&self, consumer: &mut dyn Consumer) -> Result<Option<Batch>, BrokerError> {
        let first = self.stop.run_until_cancelled(consumer.next()).await;
        let Some(first) = first.transpose()? else { return Ok(None) };
        let mut batch = Batch::of(first);
        let waited = sleep(MAX_WAIT);
        tokio::pin!(waited);
        while !batch.is_full() {
            tokio::select! {
                message = consumer.next() => batch.push(message?),
                () = &mut waited => break,
                () = self.stop.cancelled() => break,
            }
        }
        Ok(Some(batch))
    }

    /// Stores the records, however often it takes; `false` when it is time to stop and the store
    /// fails or takes too long.
    async fn keep(&self, records: &[RawRecord]) -> bool {
        let mut backoff = backoff();
        loop {
            let start = Instant::now();
            let out_of_patience = async {
                self.stop.cancelled().await;
                sleep(self.patience).await;
            };
            let stored = tokio::select! {
                stored = timeout(STORE_TIMEOUT, self.store.store(records)) => stored,
                () = out_of_patience => return false,
            };
            match stored {
                Ok(Ok(())) => {
                    metrics::stored(records.len(), start.elapsed());
                    self.check.pass();
                    return true;
                }
                Ok(Err(error)) => self.store_failed(error.to_string()),
                Err(_) => self.store_failed(format!("no answer for {STORE_TIMEOUT:?}")),
            }
            if !pause(&mut backoff, self.stop).await {
                return false;
            }
        }
    }

    fn store_failed(&self, why: String) {
        metrics::failed(Fault::Store);
        warn!(error = why, "the raw store fails; messages wait in the stream meanwhile");
        self.check.fail(why);
    }
}

/// Messages in stream order, none left out.
struct Batch {
    records: Vec<RawRecord>,
    last_sequence: u64,
    bytes: usize,
}

impl Batch {
    fn of(first: Message) -> Self {
        let mut batch = Self { records: Vec::new(), last_sequence: 0, bytes: 0 };
        batch.push(first);
        batch
    }

    fn push(&mut self, message: Message) {
        self.last_sequence = message.sequence;
        self.bytes += message.body.len();
        self.records.push(message.into());
    }

    fn is_full(&self) -> bool {
        self.records.len() >= MAX_MESSAGES || self.bytes >= MAX_BYTES
    }
}

#[cfg(test)]
mod tests;
