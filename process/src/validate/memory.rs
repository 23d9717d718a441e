//! Which events became ticks lately.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

/// The ids of the newest ticks, at most so many.
pub(crate) struct Memory {
    capacity: usize,
    oldest_first: VecDeque<Arc<str>>,
    ids: HashSet<Arc<str>>,
}

impl Memory {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, oldest_first: VecDeque::new(), ids: HashSet::new() }
    }

    /// How many ids it holds at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// As many ids, but only those of these that it contains.
    pub(crate) fn excerpt(&self, ids: &[String]) -> Self {
        let mut excerpt = Self::new(self.capacity);
        ids.iter().filter(|id| self.contains(id)).for_each(|id| excerpt.remember(id));
        excerpt
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Remembers an id that it does not contain, and forgets the oldest beyond its capacity.
    pub(crate) fn remember(&mut self, id: &str) {
        if self.capacity == 0 {
            return;
        }
        let id: Arc<str> = id.into();
        if !self.ids.insert(Arc::clone(&id)) {
            return;
        }
        if self.oldest_first.len() == self.capacity
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.oldest_first.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_the_oldest() {
        let mut memory = Memory::new(2);
        for id in ["a", "b", "b", "c"] {
            memory.remember(id);
        }
        assert!(!memory.contains("a"));
        assert!(memory.contains("b") && memory.contains("c"));
    }

    #[test]
    fn of_no_capacity_it_remembers_nothing() {
        let mut memory = Memory::new(0);
        memory.remember("a");
        assert!(!memory.contains("a"));
    }
}
