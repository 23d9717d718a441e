//! The newest tick per symbol, on its way into the bucket `last_price`.

use std::{collections::HashMap, error::Error, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use nats::Bucket;
use schemas::{Symbol, Tick};
use serde::Serialize;
use tokio::time::Instant;

use crate::store::StoredTick;

/// A symbol is written at most once in this time.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many keys are written at a time.
const AT_ONCE: usize = 64;

/// Why a price could not be written.
pub(super) type Fault = Box<dyn Error + Send + Sync>;

/// Where the newest ticks go.
#[async_trait]
pub(super) trait PriceBucket: Send + Sync {
    /// Sets a key.
    async fn put(&self, key: &str, value: Bytes) -> Result<(), Fault>;
}

#[async_trait]
impl PriceBucket for Bucket {
    async fn put(&self, key: &str, value: Bytes) -> Result<(), Fault> {
        Ok(Bucket::put(self, key, value).await.map(drop)?)
    }
}

/// The newest tick of each symbol that is not in the bucket yet.
///
/// Newest is what comes last in `TICKS`, as it is for subscribers. At most one entry per symbol,
/// and its ticks are not acknowledged before they are written: there are never more entries than
/// the consumer's window has messages.
pub(super) struct LastPrices {
    pending: HashMap<Symbol, StoredTick>,
    due: Instant,
}

/// The value of a key: a tick and its sequence in `TICKS`.
#[derive(Serialize)]
struct LastPrice<'a> {
    #[serde(flatten)]
    tick: &'a Tick,
    seq: u64,
}

impl LastPrices {
    pub(super) fn new() -> Self {
        Self { pending: HashMap::new(), due: Instant::now() }
    }

    /// Takes a stored tick, if it is newer than what waits.
    pub(super) fn offer(&mut self, tick: StoredTick) {
        match self.pending.get_mut(&tick.tick().symbol) {
            Some(waiting) if waiting.seq() >= tick.seq() => {}
            Some(waiting) => *waiting = tick,
            None => {
                self.pending.insert(tick.tick().symbol.clone(), tick);
            }
        }
    }

    /// When the next write may begin.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Puts the next write off.
    pub(super) fn postpone(&mut self, delay: Duration) {
        self.due = Instant::now() + delay;
    }

    /// Writes all that waits. What could not be written goes on waiting.
    pub(super) async fn flush(&mut self, bucket: &dyn PriceBucket) -> Result<(), Fault> {
        self.due = Instant::now() + INTERVAL;
        while !self.pending.is_empty() {
            let some: Vec<&StoredTick> = self.pending.values().take(AT_ONCE).collect();
            let results = join_all(some.iter().map(|tick| put(bucket, tick))).await;
            let mut failure = Ok(());
            let mut written = Vec::with_capacity(some.len());
            for (tick, result) in some.into_iter().zip(results) {
                match result {
                    Ok(()) => written.push(tick.tick().symbol.clone()),
                    Err(error) => failure = Err(error),
                }
            }
            for symbol in written {
                self.pending.remove(&symbol);
            }
            failure?;
        }
        Ok(())
    }
}

async fn put(bucket: &dyn PriceBucket, stored: &StoredTick) -> Result<(), Fault> {
    let tick = stored.tick();
    // Strings and numbers are always JSON.
    let value = serde_json::to_vec(&LastPrice { tick, seq: stored.seq() }).unwrap_or_default();
    bucket.put(&tick.symbol.token(), Bytes::from(value)).await
}
