//! Which symbols of a connection a replay delivers, and the live stream does not, for now.

use schemas::Symbol;

use super::{Frame, Interest, Selector};

/// Names a replay within its connection; a later one has a higher number.
pub(crate) type ReplayId = u64;

/// The running and waiting replays of one connection, oldest first.
///
/// Where two ask for the same symbol the later one delivers it, because the client's newest request
/// counts.
#[derive(Debug, Default)]
pub(crate) struct Holds(Vec<Hold>);

#[derive(Debug)]
struct Hold {
    replay: ReplayId,
    interest: Interest,
    /// Up to here the replay delivers; the live stream goes on after it. Unknown while it runs.
    through: Option<u64>,
}

impl Holds {
    /// From now on these selectors belong to a replay, and to no earlier one.
    pub(crate) fn add(&mut self, replay: ReplayId, interest: Interest) {
        for selector in interest.selectors() {
            self.forget(&selector);
        }
        self.0.push(Hold { replay, interest, through: None });
    }

    /// No replay delivers this selector any more.
    pub(crate) fn forget(&mut self, selector: &Selector) {
        for hold in &mut self.0 {
            hold.interest.remove(selector);
        }
        self.0.retain(|hold| !hold.interest.is_empty());
    }

    /// The replay has delivered everything up to and including `through`.
    pub(crate) fn release(&mut self, replay: ReplayId, through: u64) {
        for hold in self.0.iter_mut().filter(|hold| hold.replay == replay) {
            hold.through = Some(through);
        }
    }

    /// Is a live tick for a replay to deliver, or delivered by one already?
    pub(crate) fn withhold(&mut self, frame: &Frame) -> bool {
        if self.0.is_empty() {
            return false;
        }
        self.0.retain(|hold| hold.through.is_none_or(|through| frame.sequence <= through));
        self.0.iter().any(|hold| hold.interest.matches(&frame.symbol))
    }

    /// Is there no tick after `last` that would be withheld?
    pub(crate) fn is_through(&self, last: u64) -> bool {
        self.0.iter().all(|hold| hold.through.is_some_and(|through| through <= last))
    }

    /// Does a running replay hold this symbol?
    pub(crate) fn holds(&self, symbol: &Symbol) -> bool {
        self.0.iter().any(|hold| hold.through.is_none() && hold.interest.matches(symbol))
    }

    /// What a replay is to deliver; `None` where nothing is left of it.
    pub(crate) fn interest(&self, replay: ReplayId) -> Option<&Interest> {
        self.0.iter().find(|hold| hold.replay == replay).map(|hold| &hold.interest)
    }

    /// Is this symbol for that replay to deliver, and for no later one?
    pub(crate) fn wants(&self, replay: ReplayId, symbol: &Symbol) -> bool {
        self.0.iter().rev().find(|hold| hold.interest.matches(symbol)).map(|hold| hold.replay)
            == Some(replay)
    }
}
