//! What waits for one client that must not miss any of it.

use std::{collections::VecDeque, sync::Arc};

/// So many frames at most; with one more the client is too slow, and nothing waits for it any longer.
#[derive(Debug)]
pub(crate) struct Backlog<Frame> {
    capacity: usize,
    waiting: VecDeque<Arc<Frame>>,
    has_overflowed: bool,
}

impl<Frame> Backlog<Frame> {
    /// Of at most so many frames.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, waiting: VecDeque::new(), has_overflowed: false }
    }

    /// Adds one behind the others.
    pub(crate) fn push(&mut self, frame: &Arc<Frame>) {
        if self.has_overflowed {
            return;
        }
        if self.is_full() {
            self.has_overflowed = true;
            self.waiting = VecDeque::new();
        } else {
            self.waiting.push_back(Arc::clone(frame));
        }
    }

    /// Is there no room for one more?
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.capacity
    }

    /// Was the client too slow?
    pub(crate) fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// Lets only these wait.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Frame) -> bool) {
        self.waiting.retain(|frame| keep(frame));
    }

    /// Takes out at most so many, oldest first.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Arc<Frame>> {
        let count = count.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}
