//! What the hub's lock guards: the newest tick of every symbol, and who wants the next.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use schemas::Symbol;
use tokio::sync::watch;

use super::{
    Frame, Interest, Outbox, Position,
    recent::Recent,
    selector::{self, Selector},
};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: HashMap<Symbol, Topic>,
    pub(super) wildcards: HashMap<Box<str>, Vec<Arc<Outbox>>>,
    pub(super) announced: HashSet<Symbol>,
    /// The newest sequence seen.
    pub(super) last_sequence: u64,
    /// `None` before the newest ticks of the stream were loaded.
    pub(super) recent: Option<Recent>,
    /// Says where the stream broke, to all who came before that.
    pub(super) broken: watch::Sender<Option<u64>>,
}

/// One symbol. It exists as long as a tick was seen or somebody waits for the first.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) newest: Option<Arc<Frame>>,
    pub(super) subscribers: Vec<Arc<Outbox>>,
}

impl State {
    pub(super) fn publish(&mut self, frame: &Arc<Frame>, woken: &mut Vec<Arc<Outbox>>) {
        if frame.sequence <= self.last_sequence {
            return;
        }
        self.last_sequence = frame.sequence;
        if let Some(recent) = &mut self.recent {
            recent.push(Arc::clone(frame));
        }
        let mut deliver = |outbox: &Arc<Outbox>| {
            if outbox.push(frame) {
                woken.push(Arc::clone(outbox));
            }
        };
        match self.topics.get_mut(&frame.symbol) {
            Some(topic) => {
                topic.newest = Some(Arc::clone(frame));
                topic.subscribers.iter().for_each(&mut deliver);
            }
            None => {
                let topic = Topic { newest: Some(Arc::clone(frame)), subscribers: Vec::new() };
                self.topics.insert(frame.symbol.clone(), topic);
            }
        }
        if !self.wildcards.is_empty() {
            for prefix in selector::prefixes(&frame.symbol) {
                self.wildcards.get(prefix).into_iter().flatten().for_each(&mut deliver);
            }
        }
    }

    pub(super) fn subscribers(&mut self, selector: &Selector) -> &mut Vec<Arc<Outbox>> {
        match selector {
            Selector::Symbol(symbol) => {
                &mut self.topics.entry(symbol.clone()).or_default().subscribers
            }
            Selector::Prefix(prefix) => self.wildcards.entry(prefix.clone()).or_default(),
        }
    }

    pub(super) fn newest_of(&self, selector: &Selector, newest: &mut Vec<Arc<Frame>>) {
        match selector {
            Selector::Symbol(symbol) => {
                newest.extend(self.topics.get(symbol).and_then(|topic| topic.newest.clone()));
            }
            Selector::Prefix(prefix) => newest.extend(
                self.topics
                    .iter()
                    .filter(|(symbol, _)| symbol.as_str().starts_with(&**prefix))
                    .filter_map(|(_, topic)| topic.newest.clone()),
            ),
        }
    }

    /// Forgets what nobody waits for and nothing was seen of.
    pub(super) fn tidy(&mut self, selector: &Selector) {
        match selector {
            Selector::Symbol(symbol) => {
                let is_empty =
                    |topic: &Topic| topic.newest.is_none() && topic.subscribers.is_empty();
                if self.topics.get(symbol).is_some_and(is_empty) {
                    self.topics.remove(symbol);
                }
            }
            Selector::Prefix(prefix) => {
                if self.wildcards.get(prefix).is_some_and(Vec::is_empty) {
                    self.wildcards.remove(prefix);
                }
            }
        }
    }

    /// The newest tick of an interest that is still to come after a position.
    pub(super) fn newest_wanted(&self, interest: &Interest, position: Position) -> Option<u64> {
        let sequence = |topic: &Topic| {
            let newest = topic.newest.as_ref().filter(|newest| position.is_before(newest));
            newest.map(|newest| newest.sequence)
        };
        match interest.symbols_only() {
            Some(symbols) => symbols
                .iter()
                .filter_map(|symbol| self.topics.get(symbol))
                .filter_map(sequence)
                .max(),
            None => {
                let wanted = self.topics.iter().filter(|(symbol, _)| interest.matches(symbol));
                wanted.filter_map(|(_, topic)| sequence(topic)).max()
            }
        }
    }
}
