//! Who should own which partition: a pure function of who has what now.
//!
//! With `n` partitions and `m` instances, each ends with `n / m` partitions or one more. Nothing
//! moves but what has to: whoever has too many gives the excess back, whoever has too few takes what
//! is free. When an instance joins, `n / m` partitions move at most; when one leaves, its own.

use std::collections::{BTreeMap, BTreeSet};

/// What an instance is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Partitions to give back.
    pub(super) release: Vec<u16>,
    /// Partitions to try to take, which are free.
    pub(super) acquire: Vec<u16>,
}

impl Plan {
    /// `holders` has the holder of each partition, `live` all instances that could have some.
    pub(super) fn make(me: &str, holders: &[Option<String>], live: &BTreeSet<String>) -> Self {
        let mut held: BTreeMap<&str, usize> = live.iter().map(|name| (name.as_str(), 0)).collect();
        held.entry(me).or_default();
        let least = holders.len() / held.len();
        let most = holders.len().div_ceil(held.len());
        for holder in holders.iter().flatten() {
            // What somebody has who is leaving will be free soon.
            if let Some(count) = held.get_mut(holder.as_str()) {
                *count += 1;
            }
        }
        let of = |wanted: Option<&str>| {
            let partitions = (0_u16..).zip(holders);
            partitions
                .filter(move |(_, holder)| holder.as_deref() == wanted)
                .map(|(partition, _)| partition)
                .collect::<Vec<_>>()
        };
        let (mine, free) = (of(Some(me)), of(None));
        let missing: usize = held.values().map(|count| least.saturating_sub(*count)).sum();

        let mut keep = mine.len().min(most);
        // Somebody has too few, and nothing is free: those with one more give it, in their order.
        let excess: usize = held.values().map(|count| count.saturating_sub(most)).sum();
        let wanted = missing.saturating_sub(free.len() + excess);
        let mut givers = held.iter().filter(|(_, count)| **count >= most && most > least);
        if keep == most && givers.position(|(name, _)| *name == me).is_some_and(|at| at < wanted) {
            keep = least;
        }
        // One more than the least, where nobody needs it to have the least.
        let may_have_more = free.len() > missing && mine.len() < most;
        let want = match mine.len() < least {
            true => least - mine.len(),
            false => usize::from(may_have_more),
        };
        let acquire = match mine.len() > keep {
            true => Vec::new(),
            false => free.into_iter().take(want).collect(),
        };
        Self { release: mine[keep..].to_vec(), acquire }
    }

    /// Everything is as it should be.
    pub(super) fn is_empty(&self) -> bool {
        self.release.is_empty() && self.acquire.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(live: &[&str]) -> BTreeSet<String> {
        live.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Lets all instances follow their plans until nobody has one; how many partitions have moved.
    fn settle(holders: &mut [Option<String>], live: &BTreeSet<String>) -> usize {
        let mut moved = 0;
        for _ in 0..100 {
            let mut is_calm = true;
            for me in live {
                let plan = Plan::make(me, holders, live);
                is_calm &= plan.is_empty();
                for partition in plan.release {
                    holders[usize::from(partition)] = None;
                }
                for partition in plan.acquire {
                    moved += 1;
                    holders[usize::from(partition)] = Some(me.clone());
                }
            }
            if is_calm {
                return moved;
            }
        }
        panic!("it does not come to rest: {holders:?}");
    }

    fn sizes(holders: &[Option<String>], live: &BTreeSet<String>) -> Vec<usize> {
        live.iter().map(|me| holders.iter().flatten().filter(|name| *name == me).count()).collect()
    }

    #[test]
    fn everything_is_owned_evenly_whoever_comes_and_goes() {
        const NAMES: [&str; 6] = ["c", "a", "e", "b", "f", "d"];
        for count in [1, 2, 3, 8, 16] {
            let mut holders: Vec<Option<String>> = vec![None; count];
            for instances in (1..=NAMES.len()).chain((1..NAMES.len()).rev()) {
                let live = names(&NAMES[..instances]);
                for holder in &mut holders {
                    holder.take_if(|name| !live.contains(name.as_str()));
                }
                settle(&mut holders, &live);
                assert!(holders.iter().all(Option::is_some), "{count}: {holders:?}");
                let sizes = sizes(&holders, &live);
                let (least, most) = (count / instances, count.div_ceil(instances));
                assert!(sizes.iter().all(|n| (least..=most).contains(n)), "{count}: {sizes:?}");
            }
        }
    }

    #[test]
    fn no_more_moves_than_must() {
        let mut holders = vec![None; 8];
        assert_eq!(settle(&mut holders, &names(&["a"])), 8);
        assert_eq!(settle(&mut holders, &names(&["a", "b"])), 4);
        assert_eq!(settle(&mut holders, &names(&["a", "b", "c"])), 2);
        assert_eq!(settle(&mut holders, &names(&["a", "b", "c"])), 0);
    }

    #[test]
    fn one_partition_stays_where_it_is() {
        let mut holders = vec![Some("b".to_owned())];
        assert_eq!(settle(&mut holders, &names(&["a", "b", "c"])), 0);
        assert_eq!(holders, [Some("b".to_owned())]);
    }

    #[test]
    fn what_a_leaving_instance_has_is_left_until_it_is_free() {
        let holders = vec![Some("gone".to_owned()), Some("a".to_owned())];
        assert_eq!(Plan::make("a", &holders, &names(&["a"])), Plan::default());
        let holders = vec![None, Some("a".to_owned())];
        assert_eq!(Plan::make("a", &holders, &names(&["a"])).acquire, [0]);
    }
}
