//! The alert rules that one connection follows.

use std::sync::Arc;

use schemas::{ClientError, ErrorCode};

use super::{request::shorten, voice::Voice};
use crate::{
    access::Permit,
    alerts::{AlertHub, AlertQueue},
};

/// The longest id of a rule that is kept, in bytes.
const MAX_ID: usize = 64;

/// The rules that one connection follows. They end when this is dropped.
pub(super) struct Alerts {
    hub: Arc<AlertHub>,
    permit: Permit,
    capacity: usize,
    /// How many rules it may follow.
    max_rules: usize,
    /// `None` before it follows any.
    queue: Option<Arc<AlertQueue>>,
}

impl Alerts {
    pub(super) fn new(
        hub: Arc<AlertHub>,
        permit: Permit,
        capacity: usize,
        max_rules: usize,
    ) -> Self {
        Self { hub, permit, capacity, max_rules, queue: None }
    }

    /// Follows these rules, too. What cannot be followed is answered with an error, and spoils no
    /// other. An id that no rule has is followed all the same.
    pub(super) fn follow(&mut self, rules: &[String], id: Option<&String>) -> Vec<ClientError> {
        let mut errors = Vec::new();
        if rules.is_empty() {
            return errors;
        }
        let queue = self.queue.get_or_insert_with(|| {
            let queue = AlertQueue::new(self.capacity, self.permit.clone());
            self.hub.join(&queue);
            queue
        });
        let mut follows = queue.follows();
        for rule in rules {
            if follows.contains(rule) {
                continue;
            }
            let refuse =
                |code, message| ClientError { message, code, id: id.cloned(), symbols: Vec::new() };
            if rule.is_empty() || rule.len() > MAX_ID {
                let message = format!("Invalid alert rule: {}", shorten(rule, MAX_ID));
                errors.push(refuse(ErrorCode::InvalidMessage, message));
            } else if follows.len() >= self.max_rules {
                let message = format!("A connection may follow {} alert rules", self.max_rules);
                errors.push(refuse(ErrorCode::TooManySymbols, message));
                break;
            } else {
                queue.follow(rule.clone());
                follows.push(rule.clone());
            }
        }
        errors
    }

    /// Follows these rules no longer.
    pub(super) fn forget(&mut self, rules: &[String]) {
        if let Some(queue) = &self.queue {
            rules.iter().for_each(|rule| queue.forget(rule));
        }
    }

    /// What is followed, sorted.
    pub(super) fn follows(&self) -> Vec<String> {
        self.queue.as_ref().map(|queue| queue.follows()).unwrap_or_default()
    }

    pub(super) fn queue(&self) -> Option<Arc<AlertQueue>> {
        self.queue.clone()
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.has_overflowed())
    }

    /// Writes alerts that wait, at most `count`. False where there are none.
    pub(super) fn forward(&self, voice: &Voice, count: usize) -> bool {
        let frames = self.queue.as_ref().map(|queue| queue.take(count)).unwrap_or_default();
        for frame in &frames {
            voice.pipe().send(frame.bytes(voice.pipe().format).clone());
        }
        !frames.is_empty()
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            self.hub.leave(queue);
        }
    }
}
