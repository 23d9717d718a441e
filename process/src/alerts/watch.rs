//! One rule and how it stands.

use std::sync::Arc;

use schemas::alert::{Alert, AlertRule, AlertStatus, Measure};

use super::{
    memory::{Memory, Verdict},
    saved::State,
    tick::Tick,
};

/// A rule, from when it was taken on until it is deleted.
pub(super) struct Watch {
    pub(super) rule: Arc<AlertRule>,
    state: State,
    /// The revision of its key, once it is saved.
    pub(super) revision: Option<u64>,
    /// It has changed since.
    pub(super) is_unsaved: bool,
}

/// What became of a tick that a rule has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Judged,
    Doubtful,
    Inexact,
}

impl Watch {
    /// Takes a rule on: it is judged by the ticks after this sequence.
    pub(super) fn new(rule: Arc<AlertRule>, seq: u64) -> Self {
        let state = State { seq, status: AlertStatus::default(), memory: Memory::default() };
        Self { rule, state, revision: None, is_unsaved: true }
    }

    /// Goes on from what was saved.
    pub(super) fn resume(rule: Arc<AlertRule>, state: State, revision: u64) -> Self {
        Self { rule, state, revision: Some(revision), is_unsaved: false }
    }

    /// `TICKS` was made anew: its sequences begin again.
    pub(super) fn begin_again(&mut self) {
        self.state.seq = 0;
        self.is_unsaved = true;
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Looks at a tick of its symbol; the alert, where its condition comes true. Nothing where it
    /// knows the tick.
    pub(super) fn take(&mut self, tick: &Tick) -> Option<(Outcome, Option<Alert>)> {
        if tick.seq <= self.state.seq {
            return None;
        }
        self.state.seq = tick.seq;
        if tick.is_doubtful() {
            return Some((Outcome::Doubtful, None));
        }
        let verdict = self.state.memory.take(tick, &self.rule.condition);
        self.is_unsaved |= !matches!(self.rule.condition.measure, Measure::Price { .. });
        let measured = match verdict {
            Verdict::Silent => return Some((Outcome::Judged, None)),
            Verdict::Inexact => return Some((Outcome::Inexact, None)),
            Verdict::Judged(measured) => measured,
        };
        let held = self.state.status.holds && !measured.is_anew;
        self.is_unsaved |= measured.holds != self.state.status.holds;
        self.state.status.holds = measured.holds;
        if held || !measured.holds {
            return Some((Outcome::Judged, None));
        }
        let AlertRule { id, condition, owner, .. } = &*self.rule;
        let alert = Alert {
            id: Alert::id(id, tick.seq),
            rule: id.clone(),
            condition: condition.clone(),
            symbol: tick.symbol.clone(),
            value: measured.value,
            bound: measured.bound,
            price: tick.price,
            ts: tick.ts,
            source: tick.source.clone(),
            seq: tick.seq,
            owner: owner.clone(),
        };
        self.state.status.last_alert = Some(alert.id.clone());
        self.is_unsaved = true;
        Some((Outcome::Judged, Some(alert)))
    }
}
