//! What the brokers and buckets of the tests share.

use std::collections::BTreeMap;

use bytes::Bytes;
use nats::BrokerError;

/// What happens to the call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing: the request was lost.
    BeforeEffect,
    /// All it should: the answer was lost.
    AfterEffect,
}

/// How many calls were made, and which of them fails.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) made: usize,
    pub(crate) failure: Option<(usize, Failure)>,
}

impl Calls {
    /// Counts a call; how it fails if it does.
    pub(crate) fn next(&mut self) -> Option<Failure> {
        let failure = self.failure.filter(|(call, _)| *call == self.made);
        self.made += 1;
        failure.map(|(_, failure)| failure)
    }
}

/// Does what was called for, unless that fails.
pub(crate) fn answer<T>(
    failure: Option<Failure>,
    effect: impl FnOnce() -> T,
) -> Result<T, BrokerError> {
    let lost = || BrokerError::Unreachable("a test".into());
    match failure {
        Some(Failure::BeforeEffect) => Err(lost()),
        Some(Failure::AfterEffect) => {
            effect();
            Err(lost())
        }
        None => Ok(effect()),
    }
}

/// The keys of a bucket, with their values and revisions.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) entries: BTreeMap<String, (Bytes, u64)>,
    revision: u64,
}

impl Keys {
    /// Every key that has a value.
    pub(crate) fn load(&self) -> Vec<(String, Bytes, u64)> {
        let entries = self.entries.iter();
        entries.map(|(key, (value, revision))| (key.clone(), value.clone(), *revision)).collect()
    }

    /// Sets a key that is still at this revision.
    pub(crate) fn save(&mut self, key: &str, value: Bytes, revision: Option<u64>) -> Option<u64> {
        if self.entries.get(key).map(|(_, revision)| *revision) != revision {
            return None;
        }
        self.revision += 1;
        self.entries.insert(key.to_owned(), (value, self.revision));
        Some(self.revision)
    }
}
