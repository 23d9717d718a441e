//! Who should fetch what: a pure function of what all instances tell.
//!
//! Each source is cut into slices, one or [`SLICES`], and each slice has one owner. Whoever looks at
//! the same board comes to the same answer, and leases see to it that there is one owner while they
//! do not. Nothing moves but what has to: with `n` slices and `m` instances, each instance keeps what
//! it has up to `n / m`, and one more where they do not come out even; the rest goes to whoever has
//! least.

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
    let slices = candidates(reports);
    let mut shares: BTreeMap<&str, BTreeSet<Slice>> = BTreeMap::new();
    for able in slices.values().flat_map(|candidates| &candidates.able) {
        shares.entry(able).or_default();
    }
    let least = slices.len() / shares.len().max(1);
    let mut extras = slices.len() - least * shares.len();
    let mut free = Vec::new();
    // What is divided moves sooner than what is not: a feed that moves is interrupted.
    let mut by_weight: Vec<_> = slices.iter().collect();
    by_weight.sort_by_key(|(_, candidates)| candidates.is_divided);
    for (slice, candidates) in by_weight {
        let kept = candidates.holder.and_then(|holder| shares.get_mut(holder)).filter(|share| {
            let is_extra = share.len() == least && extras > 0;
            extras -= usize::from(is_extra);
            share.len() < least || is_extra
        });
        match kept {
            Some(share) => drop(share.insert(slice.clone())),
            None => free.push((slice, &candidates.able)),
        }
    }
    // What few could have comes first: the others can be given something else.
    free.sort_by_key(|(_, able)| able.len());
    for (slice, able) in free {
        let poorest = able.iter().min_by_key(|name| shares.get(*name).map_or(0, BTreeSet::len));
        if let Some(share) = poorest.and_then(|name| shares.get_mut(name)) {
            share.insert(slice.clone());
        }
    }
    shares
}

/// Who could have a slice, and who has it.
#[derive(Default)]
struct Candidates<'a> {
    able: Vec<&'a str>,
    is_divided: bool,
    holder: Option<&'a str>,
}

fn candidates(reports: &BTreeMap<String, Report>) -> BTreeMap<Slice, Candidates<'_>> {
    let mut slices: BTreeMap<Slice, Candidates> = BTreeMap::new();
    let told = || {
        reports.iter().flat_map(|(instance, report)| {
            report.sources.iter().map(move |(name, source)| (instance.as_str(), name, source))
        })
    };
    for (_, name, source) in told() {
        for number in &source.slices {
            slices.entry((name.clone(), *number)).or_default();
        }
    }
    for ((slice_name, number), candidates) in &mut slices {
        for (instance, _, source) in told().filter(|(_, name, _)| *name == slice_name) {
            candidates.able.push(instance);
            candidates.is_divided |= source.slices.len() > 1;
            if source.owned.contains(number) {
                candidates.holder = candidates.holder.or(Some(instance));
            }
        }
    }
    slices
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
                let report = SourceReport { slices: (0..*slices).collect(), ..Default::default() };
                (Name::new(name).unwrap(), report)
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
    fn symbols_fill_the_slices() {
        let symbols = (0..2_000).map(|n| slice_of(&Symbol::new(&format!("S{n}")).unwrap()));
        let mut counts = [0; SLICES as usize];
        symbols.for_each(|slice| counts[usize::from(slice)] += 1);
        assert!(counts.iter().all(|count| (180..320).contains(count)), "{counts:?}");
    }
}
