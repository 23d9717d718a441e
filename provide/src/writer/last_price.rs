//! The newest tick per symbol, on its way into the bucket `last_price`.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use nats::{Broker, Bucket, topology::Stream};
use schemas::{Symbol, Tick};
use serde::{Deserialize, Serialize};
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
    /// The value of a key and its revision.
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Fault>;

    /// Sets a key that is still at this revision, or has no value where there is none. `None`
    /// where that is not so; otherwise its new revision.
    async fn set(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, Fault>;

    /// The newest sequence of `TICKS`.
    async fn newest_sequence(&self) -> Result<u64, Fault>;
}

/// The bucket, and the stream whose ticks are in it.
pub(super) struct PricesOfStream {
    pub(super) bucket: Bucket,
    pub(super) broker: Arc<dyn Broker>,
}

#[async_trait]
impl PriceBucket for PricesOfStream {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, u64)>, Fault> {
        Ok(self.bucket.get(key).await?)
    }

    async fn set(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
    ) -> Result<Option<u64>, Fault> {
        Ok(self.bucket.replace(key, value, revision).await?)
    }

    async fn newest_sequence(&self) -> Result<u64, Fault> {
        Ok(self.broker.state(Stream::Ticks).await?.last_sequence)
    }
}

/// The newest tick of each symbol that is not in the bucket yet.
///
/// Newest is what comes last in `TICKS`, as it is for subscribers. At most one entry per symbol,
/// and its ticks are not acknowledged before they are written: there are never more entries than
/// the consumer's window has messages.
///
/// A key never goes back to an older tick, not where ticks are delivered again after a crash, and
/// not where a writer that stalled has lost its lease unnoticed: a value is only replaced at the
/// revision at which it was seen to be older.
pub(super) struct LastPrices {
    pending: HashMap<Symbol, StoredTick>,
    /// What the keys that this writer has set are at: one entry per symbol.
    revisions: HashMap<Symbol, u64>,
    due: Instant,
}

/// The value of a key: a tick and its sequence in `TICKS`.
#[derive(Serialize)]
struct LastPrice<'a> {
    #[serde(flatten)]
    tick: &'a Tick,
    seq: u64,
}

/// What of a value tells its age.
#[derive(Deserialize)]
struct Sequence {
    seq: u64,
}

impl LastPrices {
    pub(super) fn new() -> Self {
        Self { pending: HashMap::new(), revisions: HashMap::new(), due: Instant::now() }
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
            let revisions = &self.revisions;
            let results = join_all(
                some.iter()
                    .map(|tick| put(bucket, tick, revisions.get(&tick.tick().symbol).copied())),
            )
            .await;
            let mut failure = Ok(());
            let mut written = Vec::with_capacity(some.len());
            for (tick, result) in some.into_iter().zip(results) {
                match result {
                    Ok(revision) => written.push((tick.tick().symbol.clone(), revision)),
                    Err(error) => failure = Err(error),
                }
            }
            for (symbol, revision) in written {
                self.pending.remove(&symbol);
                match revision {
                    Some(revision) => self.revisions.insert(symbol, revision),
                    None => self.revisions.remove(&symbol),
                };
            }
            failure?;
        }
        Ok(())
    }
}

/// Brings a key up to a tick. Returns its revision; `None` where it had a newer tick already.
async fn put(
    bucket: &dyn PriceBucket,
    stored: &StoredTick,
    known: Option<u64>,
) -> Result<Option<u64>, Fault> {
    let tick = stored.tick();
    let key = tick.symbol.token();
    // Strings and numbers are always JSON.
    let value = serde_json::to_vec(&LastPrice { tick, seq: stored.seq() }).unwrap_or_default();
    let value = Bytes::from(value);
    if let Some(revision) = known
        && let Some(revision) = bucket.set(&key, value.clone(), Some(revision)).await?
    {
        return Ok(Some(revision));
    }
    // Never written by us, or by somebody else since.
    let before = bucket.get(&key).await?;
    if let Some((before, _)) = &before
        && let Ok(Sequence { seq }) = serde_json::from_slice(before)
        && seq > stored.seq()
        // A sequence that the stream has not reached is of a stream that is gone.
        && seq <= bucket.newest_sequence().await?
    {
        return Ok(None);
    }
    match bucket.set(&key, value, before.map(|(_, revision)| revision)).await? {
        Some(revision) => Ok(Some(revision)),
        None => Err(format!("the key {key} was written by somebody else meanwhile").into()),
    }
}
