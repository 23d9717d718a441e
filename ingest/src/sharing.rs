//! Who should fetch what: a pure function of what all instances tell.
//!
//! Each source is cut into slices, one or [`SLICES`], and each slice has one owner; sources that ask
//! one host have the same. Whoever looks at the same board comes to the same answer, and leases see to
//! it that there is one owner while they do not. Nothing moves but what has to: with `n` slices and `m`
//! instances, each instance keeps what it has up to `n / m`, and one more where they do not come out
//! even; the rest goes to whoever has least.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{Source as Name, Symbol};
use sha2::{Digest, Sha256};

use crate::{report::Report, source::Source};

/// How many slices a source that can be divided is cut into.
const SLICES: u8 = 8;

/// A slice of a source, by its number.
pub(crate) type Slice = (Name, u16);

/// The slices that there are of a source: those of its symbols, or one where it cannot be divided.
pub(crate) fn slices(source: &dyn Source, symbols: &BTreeSet<Symbol>) -> BTreeSet<u16> {
    match source.divides() {
        true => symbols.iter().map(slice_of).collect(),
        false => [0].into(),
    }
}

/// The slice that a symbol is in, of a source that is divided.
pub(crate) fn slice_of(symbol: &Symbol) -> u16 {
    let digest = Sha256::digest(symbol.as_str());
    u16::from(digest.first().map_or(0, |byte| byte % SLICES))
}

/// The slices that each instance should own.
pub(crate) fn share(reports: &BTreeMap<String, Report>) -> BTreeMap<&str, BTreeSet<Slice>> {
    let units = units(reports);
    let mut shares: BTreeMap<&str, Vec<&Candidates>> = BTreeMap::new();
    for able in units.iter().flat_map(|unit| &unit.able) {
        shares.entry(able).or_default();
    }
    let least = units.len() / shares.len().max(1);
    let mut extras = units.len() - least * shares.len();
    let mut free = Vec::new();
    // What is divided moves sooner than what is not: a feed that moves is interrupted.
    let mut by_weight: Vec<_> = units.iter().collect();
    by_weight.sort_by_key(|unit| unit.is_divided);
    for unit in by_weight {
        let kept = unit.holder.and_then(|holder| shares.get_mut(holder)).filter(|share| {
            let is_extra = share.len() == least && extras > 0;
            extras -= usize::from(is_extra);
            share.len() < least || is_extra
        });
        match kept {
            Some(share) => share.push(unit),
            None => free.push(unit),
        }
    }
    // What few could have comes first: the others can be given something else.
    free.sort_by_key(|unit| unit.able.len());
    for unit in free {
        let able = unit.able.iter();
        let poorest = able.min_by_key(|name| shares.get(*name).map_or(0, Vec::len));
        if let Some(share) = poorest.and_then(|name| shares.get_mut(name)) {
            share.push(unit);
        }
    }
    let slices = |units: Vec<&Candidates>| {
        units.into_iter().flat_map(|unit| unit.slices.iter().cloned()).collect()
    };
    shares.into_iter().map(|(name, units)| (name, slices(units))).collect()
}

/// What has one owner: a slice, or all sources of a host.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Unit<'a> {
    Slice(&'a Name, u16),
    Host(&'a str),
}

/// Who could have a unit, and who has it.
#[derive(Default)]
struct Candidates<'a> {
    slices: BTreeSet<Slice>,
    /// Where they are configured differently, those that know most of it.
    able: Vec<&'a str>,
    is_divided: bool,
    holder: Option<&'a str>,
}

fn units(reports: &BTreeMap<String, Report>) -> Vec<Candidates<'_>> {
    let told = || {
        reports.iter().flat_map(|(instance, report)| {
            report.sources.iter().map(move |(name, source)| (instance.as_str(), name, source))
        })
    };
    let mut units: BTreeMap<Unit, Candidates> = BTreeMap::new();
    for (_, name, source) in told() {
        for number in &source.slices {
            let unit = match &source.host {
                Some(host) => Unit::Host(host),
                None => Unit::Slice(name, *number),
            };
            units.entry(unit).or_default().slices.insert((name.clone(), *number));
        }
    }
    for unit in units.values_mut() {
        let (mut known, mut holders) = (BTreeMap::<&str, usize>::new(), Vec::new());
        for (instance, name, source) in told() {
            let of_it = || unit.slices.iter().filter(|(of, _)| of == name);
            if of_it().next().is_none() {
                continue;
            }
            *known.entry(instance).or_default() += of_it().count();
            unit.is_divided |= source.slices.len() > 1;
            if of_it().any(|(_, number)| source.owned.contains(number)) {
                holders.push(instance);
            }
        }
        let most = known.values().copied().max();
        known.retain(|_, count| Some(*count) == most);
        unit.holder = holders.into_iter().find(|holder| known.contains_key(holder));
        unit.able = known.into_keys().collect();
    }
    units.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceReport;

    /// A board on which nobody owns anything; each instance could fetch these sources.
    struct Board(BTreeMap<String, Report>);

    impl Board {
        fn of(instances: &[&str], sources: &[(&str, u16)]) -> Self {
            let mut board = Self(BTreeMap::new());
            for instance in instances {
                board.join(instance, sources);
            }
            board
        }

        fn join(&mut self, instance: &str, sources: &[(&str, u16)]) {
            let sources = sources.iter().map(|(name, slices)| {
                let (name, host) = name
                    .split_once('@')
                    .map_or((*name, None), |(name, host)| (name, Some(host.to_owned())));
                let slices = (0..*slices).collect();
                (Name::new(name).unwrap(), SourceReport { slices, host, ..Default::default() })
            });
            self.0.insert(instance.to_owned(), Report { sources: sources.collect() });
        }

        /// Everybody takes what it should have; how many slices have moved.
        fn settle(&mut self) -> usize {
            let mut moved = 0;
            let shares: BTreeMap<String, BTreeSet<Slice>> =
                share(&self.0).into_iter().map(|(name, share)| (name.to_owned(), share)).collect();
            for (instance, report) in &mut self.0 {
                for (name, source) in &mut report.sources {
                    let share = shares.get(instance).into_iter().flatten();
                    let owned: BTreeSet<u16> =
                        share.filter(|(of, _)| of == name).map(|(_, number)| *number).collect();
                    moved += owned.difference(&source.owned).count();
                    source.owned = owned;
                }
            }
            moved
        }

        fn sizes(&self) -> Vec<usize> {
            let owned = |report: &Report| report.sources.values().map(|s| s.owned.len()).sum();
            self.0.values().map(owned).collect()
        }
    }

    #[test]
    fn everything_is_owned_evenly_whoever_comes_and_goes() {
        let sources = [("alphavantage", 8), ("coinbase", 1), ("sim", 1), ("yahoo", 7)];
        let mut board = Board::of(&["m"], &sources);
        assert_eq!(board.settle(), 17);
        for (instance, sizes, moved) in
            [("a", vec![8, 9], 8), ("z", vec![6, 6, 5], 5), ("b", vec![4, 4, 5, 4], 4)]
        {
            board.join(instance, &sources);
            let now = board.settle();
            let mut found = board.sizes();
            assert_eq!(found.iter().sum::<usize>(), 17);
            found.sort_unstable();
            let mut sizes = sizes;
            sizes.sort_unstable();
            assert_eq!((found, now), (sizes, moved), "{instance} joins");
            assert_eq!(board.settle(), 0, "it comes to rest");
        }
        board.0.remove("m");
        assert!(board.settle() <= 6);
        let sizes = board.sizes();
        assert!(sizes.iter().all(|size| (5..=6).contains(size)), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 17);
    }

    #[test]
    fn one_source_stays_where_it_is() {
        let mut board = Board::of(&["b"], &[("sim", 1)]);
        assert_eq!(board.settle(), 1);
        board.join("a", &[("sim", 1)]);
        board.join("c", &[("sim", 1)]);
        assert_eq!((board.settle(), board.sizes()), (0, vec![0, 1, 0]));
    }

    #[test]
    fn nobody_is_given_what_it_cannot_fetch() {
        let mut board = Board::of(&["a", "b"], &[("sim", 1), ("coinbase", 1)]);
        board.join("c", &[("file", 1)]);
        assert_eq!((board.settle(), board.sizes()), (3, vec![1, 1, 1]));
        board.0.remove("b");
        board.settle();
        assert_eq!(board.sizes(), [2, 1]);
    }

    #[test]
    fn sources_of_one_host_have_one_owner() {
        let sources = [("html:a@x", 1), ("html:b@x", 1), ("html:c@y", 1), ("sim", 1)];
        let mut board = Board::of(&["m"], &sources);
        assert_eq!(board.settle(), 4);
        for instance in ["a", "z", "b"] {
            board.join(instance, &sources);
            board.settle();
            assert_eq!(board.settle(), 0, "it comes to rest");
            let owner = |name| {
                let name = Name::new(name).unwrap();
                let mut all = board.0.iter();
                all.find(|(_, report)| !report.sources[&name].owned.is_empty()).unwrap().0.clone()
            };
            assert_eq!(owner("html:a"), owner("html:b"), "{instance} has joined");
        }
        let mut sizes = board.sizes();
        sizes.sort_unstable();
        assert_eq!(sizes, [0, 1, 1, 2]);
        // Whoever knows but one of them is not given it.
        let mut board = Board::of(&["a"], &sources[..1]);
        board.join("b", &sources[..2]);
        assert_eq!((board.settle(), board.sizes()), (2, vec![0, 2]));
    }

    #[test]
    fn symbols_fill_the_slices() {
        let symbols = (0..2_000).map(|n| slice_of(&Symbol::new(&format!("S{n}")).unwrap()));
        let mut counts = [0; SLICES as usize];
        symbols.for_each(|slice| counts[usize::from(slice)] += 1);
        assert!(counts.iter().all(|count| (180..320).contains(count)), "{counts:?}");
    }
}
