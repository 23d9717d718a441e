//! How far each partition is done, in the bucket `positions`.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use nats::{BrokerError, Bucket};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time::Instant};
use tracing::warn;

use super::care::{Note, NoteStore, Noted};

/// How far a partition is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Every event of payloads up to this sequence of `TICKS_RAW` is stored.
    pub(super) raw: u64,
    /// Every tick of a later payload that may be stored is so behind this sequence of `TICKS`.
    pub(super) ticks: u64,
    /// The same of `TICKS_REJECTED`.
    pub(super) rejected: u64,
}

/// A position with its revision in the store.
pub(super) type Saved = (Position, Option<u64>);

/// Where positions are kept.
#[async_trait]
pub(super) trait PositionStore: Send + Sync {
    /// The position of a partition; the beginning where it has none.
    async fn load(&self, partition: u16) -> Result<Saved, BrokerError>;

    /// Replaces the position at this revision; nothing where it has another by now.
    async fn save(
        &self,
        partition: u16,
        position: Position,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError>;
}

/// The bucket.
pub(super) struct PositionBucket(pub(super) Bucket);

/// The key of a partition.
pub(super) fn key(partition: u16) -> String {
    format!("process.{partition}")
}

/// The key of what is noted of the payloads of a partition, or of those of many symbols.
pub(super) fn note_key(partition: Option<u16>) -> String {
    match partition {
        Some(partition) => format!("process.{partition}.tries"),
        None => "process.many.tries".to_owned(),
    }
}

#[async_trait]
impl NoteStore for PositionBucket {
    async fn load_note(&self, partition: Option<u16>) -> Result<Noted, BrokerError> {
        let (note, revision) = self.0.get_json(&note_key(partition)).await?.unzip();
        Ok((note.unwrap_or_default(), revision))
    }

    async fn save_note(
        &self,
        partition: Option<u16>,
        note: &Note,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        self.0.replace_json(&note_key(partition), note, revision).await
    }
}

#[async_trait]
impl PositionStore for PositionBucket {
    async fn load(&self, partition: u16) -> Result<Saved, BrokerError> {
        let (position, revision) = self.0.get_json(&key(partition)).await?.unzip();
        Ok((position.unwrap_or_default(), revision))
    }

    async fn save(
        &self,
        partition: u16,
        position: Position,
        revision: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        self.0.replace_json(&key(partition), &position, revision).await
    }
}

/// The positions of a session's partitions, saved now and then.
pub(super) struct Progress {
    store: Arc<dyn PositionStore>,
    saved: BTreeMap<u16, Saved>,
    saving: Option<Saving>,
    every: Duration,
    due: Instant,
}

/// A save that is under way. Where its session ends, it may still come through: it is true.
type Saving = JoinHandle<Result<BTreeMap<u16, Saved>, BrokerError>>;

impl Progress {
    /// Loads the positions of some partitions. To be saved when this time has passed.
    pub(super) async fn load(
        store: Arc<dyn PositionStore>,
        partitions: impl Iterator<Item = u16>,
        every: Duration,
    ) -> Result<Self, BrokerError> {
        let loading = partitions
            .map(async |partition| Ok::<_, BrokerError>((partition, store.load(partition).await?)));
        let saved = try_join_all(loading).await?.into_iter().collect();
        Ok(Self { store, saved, saving: None, every, due: Instant::now() + every })
    }

    /// Begins anew where the payloads do: what ends before a position is another stream than the one
    /// it was of, and nothing of it is stored behind `stored`.
    pub(super) fn begin_anew_behind(&mut self, newest_payload: u64, stored: Position) {
        if self.saved.values().any(|(position, _)| position.raw > newest_payload) {
            warn!(newest_payload, "the stream of payloads was made anew; beginning at its start");
            for (position, _) in self.saved.values_mut() {
                *position = Position { raw: 0, ..stored };
            }
        }
    }

    /// The payload up to which each partition is done.
    pub(super) fn reached(&self) -> impl Iterator<Item = (u16, u64)> {
        self.saved.iter().map(|(partition, (position, _))| (*partition, position.raw))
    }

    /// The position of a partition, where it is one of ours.
    pub(super) fn of(&self, partition: u16) -> Option<Position> {
        self.saved.get(&partition).map(|(position, _)| *position)
    }

    /// What is true of all of them.
    pub(super) fn least(&self) -> Position {
        let least = |of: fn(&Position) -> u64| {
            self.saved.values().map(|(position, _)| of(position)).min().unwrap_or_default()
        };
        Position {
            raw: least(|position| position.raw),
            ticks: least(|position| position.ticks),
            rejected: least(|position| position.rejected),
        }
    }

    /// It is time to save.
    pub(super) fn is_due(&self) -> bool {
        self.saving.is_none() && self.due <= Instant::now()
    }

    /// Begins to save what is reached. A partition that was further already stays there.
    pub(super) fn save(&mut self, reached: Position) {
        let store = Arc::clone(&self.store);
        let behind = self.saved.iter().filter(|(_, (position, _))| position.raw < reached.raw);
        let behind: Vec<_> = behind.map(|(partition, (_, at))| (*partition, *at)).collect();
        self.due = Instant::now() + self.every;
        self.saving = Some(tokio::spawn(async move {
            let saving = behind.into_iter().map(async |(partition, revision)| {
                match store.save(partition, reached, revision).await? {
                    Some(revision) => Ok((partition, (reached, Some(revision)))),
                    None => Err(BrokerError::TakenOver("positions")),
                }
            });
            Ok(try_join_all(saving).await?.into_iter().collect())
        }));
    }

    /// What was being saved is. Pending while nothing is. Cancel safe.
    pub(super) async fn saved(&mut self) -> Result<(), BrokerError> {
        let Some(saving) = &mut self.saving else { return pending().await };
        let saved = saving.await;
        self.saving = None;
        let saved = saved.map_err(|fault| BrokerError::Unreachable(fault.to_string()))?;
        self.saved.extend(saved?);
        Ok(())
    }

    /// Saves what is reached, and waits for it.
    pub(super) async fn finish(&mut self, reached: Position) -> Result<(), BrokerError> {
        if self.saving.is_some() {
            self.saved().await?;
        }
        self.save(reached);
        self.saved().await
    }
}
