//! The sources that this instance knows, and how those are that it fetches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use schemas::{Source as Name, Symbol, http::SourceState};

use crate::{
    report::{Report, SourceReport},
    status::Status,
};

/// All sources that are configured or set. Whoever runs them writes it, whoever tells of them reads.
#[derive(Default)]
pub(crate) struct Roster(RwLock<BTreeMap<Name, Entry>>);

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
    /// How its slices are, while it is run.
    pub(crate) slices: Vec<Arc<Status>>,
}

impl Roster {
    /// Changes what is known of a source.
    pub(crate) fn change(&self, name: &Name, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(entries.entry(name.clone()).or_default());
    }

    /// Nothing is known of it any more.
    pub(crate) fn forget(&self, name: &Name) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What is known of a source.
    pub(crate) fn get(&self, name: &Name) -> Option<Entry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// What is known of all of them.
    pub(crate) fn all(&self) -> BTreeMap<Name, Entry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why something that was fetched is not published, while it is not.
    pub(crate) fn unpublished(&self) -> Option<String> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().flat_map(|entry| &entry.slices).find_map(|status| status.unpublished())
    }

    /// What this instance tells the others.
    pub(crate) fn report(&self) -> Report {
        let running = self.all().into_iter().filter(|(_, entry)| entry.enabled);
        let sources = running.map(|(name, entry)| {
            let slices = entry.slices.iter().map(|status| status.snapshot());
            let report = SourceReport {
                slices: slices.filter(|slice| slice.state != SourceState::Standby).collect(),
                url: entry.url,
            };
            (name, report)
        });
        Report { sources: sources.collect() }
    }
}
