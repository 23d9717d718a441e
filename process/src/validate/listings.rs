//! Which symbols there are and which of them are halted, as the bucket `config` says.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::StreamExt;
use nats::{Bucket, BucketError, Nats};
use schemas::{Symbol, subject};
use service::Backoff;
use tokio::time::sleep;
use tracing::warn;

const DESCRIPTION: &str = "what may change while running";

/// The lists, as they were seen last. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Listings(Arc<RwLock<Lists>>);

#[derive(Default)]
struct Lists {
    /// `None` until there is a list.
    known: Option<HashSet<Symbol>>,
    halted: HashSet<Symbol>,
}

impl Listings {
    /// No source has announced the symbol, though some have announced others.
    pub(super) fn is_unknown(&self, symbol: &Symbol) -> bool {
        self.read(|lists| lists.known.as_ref().is_some_and(|known| !known.contains(symbol)))
    }

    /// Trading in the symbol is halted.
    pub(super) fn is_halted(&self, symbol: &Symbol) -> bool {
        self.read(|lists| lists.halted.contains(symbol))
    }

    /// Reads both lists.
    pub(crate) async fn load(&self, nats: &Nats) -> Result<Bucket, BucketError> {
        let bucket = nats.bucket(subject::CONFIG, DESCRIPTION, None).await?;
        for key in [subject::SYMBOLS_KEY, subject::HALTED_KEY] {
            let value = bucket.get(key).await?.map(|(value, _)| value);
            self.set(key, value.as_deref());
        }
        Ok(bucket)
    }

    /// Keeps both lists as they are in the bucket, for ever. While it cannot be watched, they stay
    /// as they were.
    pub(crate) async fn follow(&self, nats: &Nats) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let delay = match self.watch(nats, &mut backoff).await {
                Ok(()) => backoff.next_delay(),
                Err(fault) => {
                    let delay = backoff.next_delay();
                    warn!(%fault, ?delay, "the lists of symbols cannot be watched; trying again");
                    delay
                }
            };
            sleep(delay).await;
        }
    }

    async fn watch(&self, nats: &Nats, backoff: &mut Backoff) -> Result<(), BucketError> {
        let mut changes = self.load(nats).await?.watch().await?;
        while let Some(change) = changes.next().await {
            let change = change?;
            backoff.reset();
            self.set(&change.key, change.value.as_deref());
        }
        Ok(())
    }

    /// Takes over what a key of the bucket says now; a value that cannot be read changes nothing.
    fn set(&self, key: &str, value: Option<&[u8]>) {
        if ![subject::SYMBOLS_KEY, subject::HALTED_KEY].contains(&key) {
            return;
        }
        let list: Option<HashSet<Symbol>> = match value.map(serde_json::from_slice).transpose() {
            Ok(list) => list,
            Err(fault) => {
                warn!(key, %fault, "the bucket config holds no list of symbols");
                return;
            }
        };
        // A lock that a panic has poisoned holds whole lists all the same.
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if key == subject::SYMBOLS_KEY {
            lists.known = list;
        } else {
            lists.halted = list.unwrap_or_default();
        }
    }

    fn read(&self, question: impl FnOnce(&Lists) -> bool) -> bool {
        question(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
impl Listings {
    pub(super) fn known(&self, symbols: &[&str]) {
        self.set(subject::SYMBOLS_KEY, serde_json::to_vec(symbols).ok().as_deref());
    }

    pub(super) fn halted(&self, symbols: &[&str]) {
        self.set(subject::HALTED_KEY, serde_json::to_vec(symbols).ok().as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_lists_is_neither_unknown_nor_halted() {
        let (listings, aapl) = (Listings::default(), Symbol::new("AAPL").unwrap());
        assert!(!listings.is_unknown(&aapl) && !listings.is_halted(&aapl));
        listings.set("symbols", Some(br#"["MSFT"]"#));
        listings.set("halted", Some(br#"["AAPL"]"#));
        assert!(listings.is_unknown(&aapl) && listings.is_halted(&aapl));
        listings.set("halted", Some(b"AAPL"));
        assert!(listings.is_halted(&aapl), "a value that cannot be read changes nothing");
        listings.set("symbols", None);
        listings.set("halted", None);
        assert!(!listings.is_unknown(&aapl) && !listings.is_halted(&aapl));
    }
}
