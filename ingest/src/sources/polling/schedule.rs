//! When which symbols are asked for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use schemas::Symbol;
use service::Backoff;
use tokio::time::Instant;

use crate::sources::fetch::Validators;

/// Symbols that are new are asked for within this time, or within the interval if that is shorter.
const FIRST_ROUND: Duration = Duration::from_secs(60);

/// The first and the longest wait before what failed is asked for again; never longer than the
/// interval.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));

/// A symbol that the provider does not know is asked for less and less often, down to this.
const LONGEST_ABSENCE: Duration = Duration::from_secs(60 * 60);

/// The symbols of one request, and what is known from their last answer.
pub(super) struct Group {
    number: u64,
    pub(super) symbols: Vec<Symbol>,
    /// When they were due.
    pub(super) due: Instant,
    pub(super) validators: Validators,
    /// The hash of the page that was published last.
    pub(super) last_page: Option<String>,
    retry: Backoff,
    absences: u32,
}

impl Group {
    fn new(number: u64, symbols: Vec<Symbol>, due: Instant, interval: Duration) -> Self {
        Self {
            number,
            symbols,
            due,
            validators: Validators::default(),
            last_page: None,
            retry: Backoff::new(RETRY.0.min(interval), RETRY.1.min(interval)),
            absences: 0,
        }
    }

    /// As told to people: its only symbol, or how many they are.
    pub(super) fn named(&self) -> String {
        match self.symbols.as_slice() {
            [symbol] => symbol.to_string(),
            symbols => format!("{} symbols", symbols.len()),
        }
    }

    /// The provider has answered.
    pub(super) fn works(&mut self) {
        self.retry.reset();
        self.absences = 0;
    }

    /// How long to wait after a fault.
    pub(super) fn failed(&mut self) -> Duration {
        self.retry.next_delay()
    }

    /// How long to wait because the provider does not know the symbols.
    pub(super) fn absent(&mut self, interval: Duration) -> Duration {
        self.absences = (self.absences + 1).min(16);
        let longest = LONGEST_ABSENCE.max(interval);
        interval.saturating_mul(1 << self.absences).min(longest)
    }
}

/// All symbols that are followed, in groups of at most a batch; those that are not being asked for
/// wait here until they are due.
pub(super) struct Schedule {
    batch: usize,
    interval: Duration,
    /// By when they are due.
    waiting: BTreeMap<(Instant, u64), Group>,
    /// The number of the group that a symbol is in.
    group_of: HashMap<Symbol, u64>,
    groups: u64,
}

impl Schedule {
    /// Of no symbols yet. `batch` is at least 1.
    pub(super) fn new(batch: usize, interval: Duration) -> Self {
        Self { batch, interval, waiting: BTreeMap::new(), group_of: HashMap::new(), groups: 0 }
    }

    /// From now on exactly these symbols are asked for. Groups that are not full are made up anew
    /// together with the new symbols.
    pub(super) fn follow(&mut self, symbols: &BTreeSet<Symbol>, now: Instant) {
        self.group_of.retain(|symbol, _| symbols.contains(symbol));
        let mut new: Vec<Symbol> =
            symbols.iter().filter(|symbol| !self.group_of.contains_key(*symbol)).cloned().collect();
        let waiting = std::mem::take(&mut self.waiting);
        for (due, mut group) in waiting {
            group.symbols.retain(|symbol| self.group_of.contains_key(symbol));
            if group.symbols.len() == self.batch || (new.is_empty() && !group.symbols.is_empty()) {
                self.waiting.insert(due, group);
            } else {
                new.append(&mut group.symbols);
            }
        }
        let count = u32::try_from(new.chunks(self.batch).len()).unwrap_or(u32::MAX).max(1);
        let apart = FIRST_ROUND.min(self.interval) / count;
        let mut due = now;
        for chunk in new.chunks(self.batch) {
            self.groups += 1;
            self.group_of.extend(chunk.iter().map(|symbol| (symbol.clone(), self.groups)));
            let group = Group::new(self.groups, chunk.to_vec(), due, self.interval);
            self.waiting.insert((due, self.groups), group);
            due += apart;
        }
    }

    /// When the next group is due, and of how many symbols it is.
    pub(super) fn next(&self) -> Option<(Instant, usize)> {
        let ((due, _), group) = self.waiting.first_key_value()?;
        Some((*due, group.symbols.len()))
    }

    /// Of how many symbols each group is that is due by that time, in their order.
    pub(super) fn due_until(&self, time: Instant) -> impl Iterator<Item = usize> {
        self.waiting.range(..=(time, u64::MAX)).map(|(_, group)| group.symbols.len())
    }

    /// The next group, to be asked for and [put back](Self::put_back).
    pub(super) fn take(&mut self) -> Option<Group> {
        self.waiting.pop_first().map(|(_, group)| group)
    }

    /// The group is due again at that time, without what is not followed any more.
    pub(super) fn put_back(&mut self, mut group: Group, due: Instant) {
        group.symbols.retain(|symbol| self.group_of.get(symbol) == Some(&group.number));
        if !group.symbols.is_empty() {
            group.due = due;
            self.waiting.insert((due, group.number), group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn symbols(names: &[&str]) -> BTreeSet<Symbol> {
        names.iter().map(|name| Symbol::new(name).unwrap()).collect()
    }

    fn named(group: &Group) -> String {
        group.symbols.iter().map(Symbol::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Takes whatever comes next, and when it was due, in milliseconds.
    fn next(schedule: &mut Schedule, start: Instant) -> (String, u128) {
        let due = schedule.next().unwrap().0 - start;
        let group = schedule.take().unwrap();
        let name = named(&group);
        let again = group.due + INTERVAL;
        schedule.put_back(group, again);
        (name, due.as_millis())
    }

    #[test]
    fn symbols_are_spread_over_the_interval_and_keep_their_times() {
        let (start, mut schedule) = (Instant::now(), Schedule::new(1, INTERVAL));
        schedule.follow(&symbols(&["A", "B", "C", "D"]), start);
        let seen: Vec<_> = (0..8).map(|_| next(&mut schedule, start)).collect();
        let expected = ["A", "B", "C", "D", "A", "B", "C", "D"].map(str::to_owned);
        assert_eq!(seen, expected.into_iter().zip((0..).step_by(2_500)).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_round_of_a_long_interval_takes_a_minute() {
        let (start, mut schedule) = (Instant::now(), Schedule::new(1, 1_000 * FIRST_ROUND));
        schedule.follow(&symbols(&["A", "B"]), start);
        let due = [schedule.take(), schedule.take()].map(|group| group.unwrap().due - start);
        assert_eq!(due, [Duration::ZERO, FIRST_ROUND / 2]);
    }

    #[test]
    fn a_new_symbol_is_due_at_once_and_one_that_is_left_never_again() {
        let (start, mut schedule) = (Instant::now(), Schedule::new(1, INTERVAL));
        schedule.follow(&symbols(&["A", "B"]), start);
        assert_eq!(next(&mut schedule, start).0, "A");
        schedule.follow(&symbols(&["B", "C"]), start + Duration::from_secs(1));
        let seen: Vec<_> = (0..4).map(|_| next(&mut schedule, start)).collect();
        let expected = [("C", 1_000), ("B", 5_000), ("C", 11_000), ("B", 15_000)];
        assert_eq!(seen, expected.map(|(name, due)| (name.to_owned(), due)));
    }

    #[test]
    fn what_is_left_while_it_is_asked_for_does_not_come_back_twice() {
        let (start, mut schedule) = (Instant::now(), Schedule::new(1, INTERVAL));
        schedule.follow(&symbols(&["A"]), start);
        let asked = schedule.take().unwrap();
        schedule.follow(&symbols(&["B"]), start);
        schedule.follow(&symbols(&["A", "B"]), start);
        schedule.put_back(asked, start);
        let seen: BTreeSet<_> = (0..2).map(|_| named(&schedule.take().unwrap())).collect();
        assert_eq!(seen, ["A".to_owned(), "B".to_owned()].into());
        assert!(schedule.take().is_none());
    }

    #[test]
    fn batches_are_filled_up_with_new_symbols() {
        let (start, mut schedule) = (Instant::now(), Schedule::new(2, INTERVAL));
        schedule.follow(&symbols(&["A", "B", "C"]), start);
        schedule.follow(&symbols(&["A", "B", "C", "D", "E"]), start);
        let mut seen: Vec<_> = (0..3).map(|_| named(&schedule.take().unwrap())).collect();
        seen.sort();
        assert_eq!(seen, ["A B", "C", "D E"]);
    }

    #[test]
    fn an_unknown_symbol_is_asked_for_less_and_less_often() {
        let mut group = Group::new(1, Vec::new(), Instant::now(), INTERVAL);
        let waits: Vec<_> = (0..10).map(|_| group.absent(INTERVAL).as_secs()).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        group.works();
        assert_eq!(group.absent(INTERVAL).as_secs(), 20);
    }
}
