//! The rules that are judged, by their symbols.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use schemas::{
    Symbol,
    alert::{Alert, AlertRule},
};

use super::{
    rules::Rules,
    saved::State,
    tick::Tick,
    watch::{Outcome, Watch},
};

/// All rules. It knows neither a broker nor a bucket.
#[derive(Default)]
pub(super) struct Book {
    watches: HashMap<Symbol, Vec<Watch>>,
}

impl Book {
    /// Looks at a tick.
    pub(super) fn take(
        &mut self,
        tick: &Tick,
        alerts: &mut impl Extend<Alert>,
        mut outcome: impl FnMut(Outcome),
    ) {
        for watch in self.watches.get_mut(&tick.symbol).into_iter().flatten() {
            if let Some((became, alert)) = watch.take(tick) {
                outcome(became);
                alerts.extend(alert);
            }
        }
    }

    /// The ids of those that are judged.
    pub(super) fn ids(&self) -> HashSet<String> {
        self.watches.values().flatten().map(|watch| watch.rule.id.clone()).collect()
    }

    /// The symbols that matter, sorted.
    pub(super) fn symbols(&self) -> BTreeSet<Symbol> {
        self.watches.keys().cloned().collect()
    }

    /// The sequence that all of them have seen, or were taken on at; 0 where there are none.
    pub(super) fn oldest_seen(&self) -> u64 {
        self.watches.values().flatten().map(|watch| watch.state().seq).min().unwrap_or(0)
    }

    /// Takes a rule on, to be judged by the ticks after this sequence.
    pub(super) fn add(&mut self, rule: &Arc<AlertRule>, seq: u64) {
        self.insert(Watch::new(Arc::clone(rule), seq));
    }

    /// Goes on with a rule from what was saved.
    pub(super) fn resume(&mut self, rule: &Arc<AlertRule>, state: State, revision: u64) {
        self.insert(Watch::resume(Arc::clone(rule), state, revision));
    }

    fn insert(&mut self, watch: Watch) {
        self.watches.entry(watch.rule.condition.symbol.clone()).or_default().push(watch);
    }

    /// Drops the rules that are there no more; their ids and the revisions of their keys.
    pub(super) fn retain(&mut self, rules: &Rules) -> Vec<(String, Option<u64>)> {
        let mut dropped = Vec::new();
        self.watches.retain(|_, watches| {
            watches.retain(|watch| {
                let stays = rules.contains_key(&watch.rule.id);
                if !stays {
                    dropped.push((watch.rule.id.clone(), watch.revision));
                }
                stays
            });
            !watches.is_empty()
        });
        dropped
    }

    /// `TICKS` was made anew: its sequences begin again.
    pub(super) fn begin_again(&mut self) {
        self.watches.values_mut().flatten().for_each(Watch::begin_again);
    }

    /// Those that have changed since they were saved.
    pub(super) fn unsaved(&mut self) -> impl Iterator<Item = &mut Watch> {
        self.watches.values_mut().flatten().filter(|watch| watch.is_unsaved)
    }
}
