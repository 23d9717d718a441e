//! The one worker that writes ticks to the store.
//!
//! It holds a lease, so that of all instances one writes. A tick goes through three steps, each
//! after the one before it: committed to the store, newest of its symbol in `last_price`,
//! acknowledged. A crash in between repeats steps that are harmless to repeat.

mod last_price;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nats::{BrokerError, Bucket, BucketError, Consumer, Message, topology};
use schemas::{Tick, subject};
use service::{Backoff, Check, Context};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::store::{self, StoreConfig, StoreError, StoredTick, TickWriter, metrics};
use last_price::{LastPrices, PriceBucket, PricesOfStream};

/// The lease of the one instance that writes the store.
pub const WRITER_LEASE: &str = "provide.writer";

/// The largest batch; also all that is held in memory while the store is down.
const BATCH: usize = 1_000;

/// How long the first tick of a batch waits for company.
const LINGER: Duration = Duration::from_millis(20);

/// How long one attempt to write a batch may take: a connection that died silently is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

/// Writes whenever this instance holds the lease, until shutdown. Only a configuration that
/// cannot work is an error: everything else is retried, and the health check says what is wrong.
pub(crate) async fn run(
    config: StoreConfig,
    data_dir: PathBuf,
    context: Context,
    check: Check,
) -> Result<(), StoreError> {
    metrics::describe();
    config.validate()?;
    let mut backoff = backoff();
    while !context.shutdown.is_cancelled() {
        // Another instance may hold the lease for ever: standing by is being well.
        check.pass();
        let lease = tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            lease = context.nats.lease(WRITER_LEASE, &context.instance) => lease,
        };
        match lease {
            Ok(lease) => {
                backoff.reset();
                let stop = Stop { shutdown: context.shutdown.clone(), lost: lease.lost().clone() };
                let ended = write(&config, &data_dir, &context, &check, stop).await;
                lease.release().await;
                ended?;
            }
            Err(error) => {
                warn!(%error, "the lease of the store's writer cannot be had; trying again");
                check.fail(error.to_string());
                pause(&context.shutdown, backoff.next_delay()).await;
            }
        }
    }
    Ok(())
}

/// Opens the store and the bucket, and writes until it has to stop.
async fn write(
    config: &StoreConfig,
    data_dir: &Path,
    context: &Context,
    check: &Check,
    stop: Stop,
) -> Result<(), StoreError> {
    let Some((store, bucket)) = open(config, data_dir, context, check, &stop).await? else {
        return Ok(());
    };
    info!("writing ticks to the store");
    check.pass();
    let prices = PricesOfStream { bucket, broker: Arc::clone(&context.broker) };
    let mut worker = Worker::new(store, Box::new(prices), check.clone(), stop);
    let mut backoff = backoff();
    while !worker.stop.is_requested() {
        let ended = match context.broker.consumer(&topology::STORE).await {
            Ok(mut consumer) => worker.work(consumer.as_mut(), context.shutdown_deadline).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            warn!(%error, "the store's consumer ended; opening it anew");
            check.fail(error.to_string());
            if worker.take_progress() {
                backoff.reset();
            }
            worker.stop.pause(backoff.next_delay()).await;
        }
    }
    Ok(())
}

/// Opens the store and the bucket, however long that takes; nothing where it has to stop first.
async fn open(
    config: &StoreConfig,
    data_dir: &Path,
    context: &Context,
    check: &Check,
    stop: &Stop,
) -> Result<Option<(Box<dyn TickWriter>, Bucket)>, StoreError> {
    let mut backoff = backoff();
    while !stop.is_requested() {
        let fault = match store::open_writer(config, data_dir).await {
            Err(error @ StoreError::Config { .. }) => return Err(error),
            Err(error) => error.to_string(),
            Ok(store) => match last_prices(context).await {
                Ok(bucket) => return Ok(Some((store, bucket))),
                Err(error) => error.to_string(),
            },
        };
        metrics::failed();
        warn!(fault, "the store's writer cannot begin; trying again");
        check.fail(fault);
        stop.pause(backoff.next_delay()).await;
    }
    Ok(None)
}

async fn last_prices(context: &Context) -> Result<Bucket, BucketError> {
    context.nats.bucket(subject::LAST_PRICE, "the newest tick per symbol", None).await
}

async fn pause(shutdown: &CancellationToken, delay: Duration) {
    let _ = timeout(delay, shutdown.cancelled()).await;
}

/// The two reasons to stop: shutdown, which drains first, and the lost lease, which does not.
struct Stop {
    shutdown: CancellationToken,
    lost: CancellationToken,
}

impl Stop {
    fn is_requested(&self) -> bool {
        self.shutdown.is_cancelled() || self.lost.is_cancelled()
    }

    async fn requested(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.lost.cancelled() => {}
        }
    }

    async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = self.requested() => {}
            () = sleep(delay) => {}
        }
    }
}

/// What the worker holds between two messages.
struct Worker {
    store: Box<dyn TickWriter>,
    bucket: Box<dyn PriceBucket>,
    check: Check,
    stop: Stop,
    batch: Batch,
    prices: LastPrices,
    /// Committed up to here, and not acknowledged yet.
    committed: Option<u64>,
    /// Whether anything was acknowledged since somebody asked.
    has_progressed: bool,
    /// Whether `last_price` could not be written the last time.
    is_behind: bool,
    price_backoff: Backoff,
}

/// Ticks that are not committed yet.
#[derive(Default)]
struct Batch {
    ticks: Vec<StoredTick>,
    /// When its first message came, and the sequence of its last, also where those were passed
    /// over.
    read: Option<(Instant, u64)>,
}

impl Worker {
    fn new(
        store: Box<dyn TickWriter>,
        bucket: Box<dyn PriceBucket>,
        check: Check,
        stop: Stop,
    ) -> Self {
        Self {
            store,
            bucket,
            check,
            stop,
            batch: Batch::default(),
            prices: LastPrices::new(),
            committed: None,
            has_progressed: false,
            is_behind: false,
            price_backoff: backoff(),
        }
    }

    fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Works with one consumer until it fails, or until told to stop.
    async fn work(
        &mut self,
        consumer: &mut dyn Consumer,
        deadline: Duration,
    ) -> Result<(), BrokerError> {
        // A new consumer begins at what is not acknowledged: it delivers these again.
        self.batch = Batch::default();
        self.committed = None;
        self.check.pass();
        loop {
            let linger_ends =
                self.batch.read.map_or_else(Instant::now, |(first, _)| first + LINGER);
            tokio::select! {
                biased;
                () = self.stop.requested() => break,
                () = sleep_until(linger_ends), if self.batch.read.is_some() => self.commit().await,
                () = sleep_until(self.prices.due()), if self.committed.is_some() => {
                    self.publish_and_acknowledge(consumer).await?;
                }
                message = consumer.next() => self.take(&message?),
            }
            if self.batch.ticks.len() >= BATCH {
                self.commit().await;
            }
        }
        if !self.stop.lost.is_cancelled() {
            let drained = timeout(deadline, self.drain(consumer)).await;
            drained.unwrap_or_else(|_| {
                warn!("the store did not drain in time; what is left is delivered again");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Finishes what was begun, with one attempt each.
    async fn drain(&mut self, consumer: &mut dyn Consumer) -> Result<(), BrokerError> {
        self.commit().await;
        if self.committed.is_some() {
            self.publish_and_acknowledge(consumer).await?;
        }
        Ok(())
    }

    fn take(&mut self, message: &Message) {
        let first = self.batch.read.map_or_else(Instant::now, |(first, _)| first);
        self.batch.read = Some((first, message.sequence));
        match read(message) {
            Ok(tick) => self.batch.ticks.push(tick),
            Err(fault) => {
                metrics::unreadable();
                error!(sequence = message.sequence, fault, "a message of TICKS is no tick");
            }
        }
    }

    /// Commits the batch, trying until it works or until told to stop. Where it does not work, the
    /// batch stays, and so does the health check's reason.
    async fn commit(&mut self) {
        let Some((_, last)) = self.batch.read else { return };
        let mut backoff = backoff();
        loop {
            let begin = Instant::now();
            let attempt = timeout(WRITE_TIMEOUT, self.store.write(&self.batch.ticks)).await;
            match attempt.unwrap_or_else(|_| Err(StoreError::too_slow(WRITE_TIMEOUT))) {
                Ok(new) => {
                    metrics::written(new, begin.elapsed());
                    break;
                }
                Err(error) => {
                    metrics::failed();
                    warn!(%error, ticks = self.batch.ticks.len(), "the store fails; trying again");
                    self.check.fail(error.to_string());
                }
            }
            if self.stop.is_requested() {
                return;
            }
            self.stop.pause(backoff.next_delay()).await;
        }
        if !self.is_behind {
            self.check.pass();
        }
        for tick in std::mem::take(&mut self.batch).ticks {
            self.prices.offer(tick);
        }
        self.committed = Some(last);
    }

    /// Brings `last_price` up to what is committed, then acknowledges it.
    async fn publish_and_acknowledge(
        &mut self,
        consumer: &mut dyn Consumer,
    ) -> Result<(), BrokerError> {
        if let Err(error) = self.prices.flush(self.bucket.as_ref()).await {
            metrics::failed();
            warn!(%error, "last_price is behind; trying again");
            self.check.fail(error.to_string());
            self.is_behind = true;
            self.prices.postpone(self.price_backoff.next_delay());
            return Ok(());
        }
        if let Some(sequence) = self.committed {
            consumer.acknowledge(sequence).await?;
            self.committed = None;
            self.has_progressed = true;
        }
        self.price_backoff.reset();
        self.is_behind = false;
        self.check.pass();
        Ok(())
    }
}

/// Reads a message of `TICKS`.
fn read(message: &Message) -> Result<StoredTick, String> {
    let tick: Tick = serde_json::from_slice(&message.body).map_err(|fault| fault.to_string())?;
    StoredTick::new(tick, message.sequence).map_err(|fault| fault.to_string())
}
