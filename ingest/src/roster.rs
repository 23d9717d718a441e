//! The sources that this instance knows, and how those are that it fetches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use schemas::{Source as Name, Symbol};
use tokio::sync::{Notify, watch};

use crate::{
    report::{Report, SourceReport},
    sharing::Slice,
    status::Status,
};

/// All sources that are configured or set. Whoever runs them writes it, whoever tells of them reads.
#[derive(Default)]
pub(crate) struct Roster {
    entries: RwLock<BTreeMap<Name, Entry>>,
    changed: Notify,
}

/// A source.
#[derive(Clone, Default)]
pub(crate) struct Entry {
    /// Where it fetches from.
    pub(crate) url: String,
    /// Whether it is to be fetched.
    pub(crate) enabled: bool,
    /// The symbols to fetch, where it asks for symbols.
    pub(crate) symbols: Arc<BTreeSet<Symbol>>,
    /// Why the newest setting does not hold.
    pub(crate) setting_error: Option<String>,
    /// The slices that there are of it.
    pub(crate) slices: BTreeSet<u16>,
    /// The host that has one owner.
    pub(crate) host: Option<String>,
    /// How it is here, while it is run.
    pub(crate) status: Option<Arc<Status>>,
    /// Where it is told which of its slices are due to us.
    pub(crate) due: Option<watch::Sender<BTreeSet<u16>>>,
}

impl Roster {
    /// Changes what is known of a source.
    pub(crate) fn change(&self, name: &Name, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        change(entries.entry(name.clone()).or_default());
        self.changed.notify_one();
    }

    /// Returns when something was changed since it last did. Only one may wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Nothing is known of it any more.
    pub(crate) fn forget(&self, name: &Name) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What is known of a source.
    pub(crate) fn get(&self, name: &Name) -> Option<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Why something that was fetched is not published, while it is not.
    pub(crate) fn unpublished(&self) -> Option<String> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .values()
            .filter_map(|entry| entry.status.as_ref())
            .find_map(|status| status.unpublished())
    }

    /// What this instance tells the others.
    pub(crate) fn report(&self) -> Report {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let running = entries.iter().filter(|(_, entry)| entry.enabled);
        let sources = running.filter_map(|(name, entry)| {
            let status = entry.status.as_ref()?;
            let (owned, condition) = (status.owned(), status.snapshot());
            let (url, slices, host) = (entry.url.clone(), entry.slices.clone(), entry.host.clone());
            Some((name.clone(), SourceReport { url, slices, host, owned, condition }))
        });
        Report { sources: sources.collect() }
    }

    /// These slices are due to us, and no others.
    pub(crate) fn assign(&self, share: &BTreeSet<Slice>) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        for (name, entry) in entries.iter() {
            let Some(due) = &entry.due else { continue };
            let of_it = (name.clone(), 0)..=(name.clone(), u16::MAX);
            let ours: BTreeSet<u16> = share.range(of_it).map(|(_, slice)| *slice).collect();
            due.send_if_modified(|due| {
                let is_new = *due != ours;
                *due = ours;
                is_new
            });
        }
    }
}
