//! Instances that know each other without NATS, each with a session that says what it remembers.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use nats::{BucketError, RequestError};

use super::{
    super::{Others, endpoint::OfInstance},
    *,
};
use crate::engine::partition;

/// Who owns what, and who is there.
pub(super) struct Net {
    count: u16,
    holders: Mutex<BTreeMap<u16, &'static str>>,
    instances: Mutex<BTreeMap<&'static str, Option<Arc<DryRuns>>>>,
    /// How many questions one instance has asked another.
    pub(super) questions: AtomicUsize,
}

/// What an instance remembers.
pub(super) enum Memory {
    /// What it says the first time; nobody asks it where there is nothing.
    Once(Option<Excerpt>),
    /// What it has of the symbols that it owns.
    Of(State),
}

impl Net {
    pub(super) fn of(count: u16) -> Arc<Self> {
        Arc::new(Self {
            count,
            holders: Mutex::default(),
            instances: Mutex::default(),
            questions: AtomicUsize::default(),
        })
    }

    /// An instance, the first of which owns all.
    pub(super) fn instance(self: &Arc<Self>, name: &'static str, memory: Memory) -> Arc<DryRuns> {
        self.configured(name, memory, reading())
    }

    pub(super) fn configured(
        self: &Arc<Self>,
        name: &'static str,
        memory: Memory,
        reading: Reading,
    ) -> Arc<DryRuns> {
        let (runs, mut questions) = DryRuns::new(Arc::new(reading), name.into(), self.clone());
        self.instances().insert(name, Some(Arc::clone(&runs)));
        let mut memory = match memory {
            Memory::Once(None) => return runs,
            memory => memory,
        };
        (0..self.count).for_each(|partition| {
            self.holders().entry(partition).or_insert(name);
        });
        let net = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                question.answer(|subject| match &mut memory {
                    Memory::Once(known) => known.take().expect("it is asked once"),
                    Memory::Of(state) => net.excerpt(name, state, subject),
                });
            }
        });
        runs
    }

    fn excerpt(&self, name: &str, state: &State, subject: &peek::Subject) -> Excerpt {
        let is_own = |symbol: &&Symbol| {
            let home = partition::of_tick(subject.payload.as_ref(), symbol, self.count);
            self.holders().get(&home) == Some(&name)
        };
        let (ours, theirs): (Vec<_>, Vec<_>) = subject.symbols.iter().partition(is_own);
        Excerpt {
            state: state.excerpt(ours.into_iter(), &subject.ids),
            sequence: 10,
            elsewhere: theirs.into_iter().cloned().collect(),
        }
    }

    /// The partition of a symbol changes hands.
    pub(super) fn move_to(&self, owner: Option<&'static str>, symbol: &str) {
        let home = partition::of_tick(None, &Symbol::new(symbol).unwrap(), self.count);
        match owner {
            Some(owner) => self.holders().insert(home, owner),
            None => self.holders().remove(&home),
        };
    }

    /// An instance dies.
    pub(super) fn kill(&self, name: &str) {
        self.instances().remove(name);
    }

    /// An instance does not answer any more.
    pub(super) fn stall(&self, name: &'static str) {
        self.instances().insert(name, None);
    }

    fn holders(&self) -> MutexGuard<'_, BTreeMap<u16, &'static str>> {
        self.holders.lock().unwrap()
    }

    fn instances(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<Arc<DryRuns>>>> {
        self.instances.lock().unwrap()
    }
}

#[async_trait]
impl Others for Net {
    async fn count(&self) -> Result<u16, BucketError> {
        Ok(self.count)
    }

    async fn holders(&self, partitions: &[u16]) -> Result<Vec<Option<String>>, BucketError> {
        let holders = self.holders();
        let holder = |partition| holders.get(partition).map(ToString::to_string);
        Ok(partitions.iter().map(holder).collect())
    }

    async fn ask(
        &self,
        instance: &str,
        question: ServiceRequest,
        _: Duration,
    ) -> Result<Bytes, RequestError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let asked = self.instances().get(instance).cloned();
        match asked {
            None => Err(RequestError::Nobody(instance.to_owned())),
            Some(None) => pending().await,
            Some(Some(runs)) => Ok(OfInstance(runs).answer(question).await?),
        }
    }
}
