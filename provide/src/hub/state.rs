//! What the hub's lock guards: the newest tick of every symbol, and who wants the next.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use schemas::Symbol;
use tokio::sync::watch;

use super::{
    Frame, Interest, Outbox, Pipe, Position,
    lane::{Due, Lane, LaneKey},
    recent::Recent,
    selector::{self, Selector},
};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: HashMap<Symbol, Topic>,
    pub(super) wildcards: HashMap<Box<str>, Audience>,
    pub(super) lanes: HashMap<LaneKey, Arc<Lane>>,
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
    pub(super) audience: Audience,
}

/// Who waits for the next tick.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub(super) lanes: Vec<Arc<Lane>>,
    pub(super) outboxes: Vec<Arc<Outbox>>,
}

/// What has to be done after ticks were published.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// To be woken.
    pub(super) outboxes: Vec<Arc<Outbox>>,
    /// To be written, by shard.
    pub(super) lanes: Vec<Vec<(Arc<Lane>, Due)>>,
    /// A lane is full: whoever publishes waits until it is written.
    pub(super) is_full: bool,
}

impl Published {
    pub(super) fn for_shards(count: usize) -> Self {
        Self { lanes: vec![Vec::new(); count], ..Self::default() }
    }
}

impl Audience {
    fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.outboxes.is_empty()
    }

    fn deliver(&self, frame: &Arc<Frame>, published: &mut Published) {
        for lane in &self.lanes {
            let due = lane.append(frame);
            published.is_full |= due == Due::Full;
            if due != Due::Known
                && let Some(lanes) = published.lanes.get_mut(lane.key.shard)
            {
                lanes.push((Arc::clone(lane), due));
            }
        }
        for outbox in &self.outboxes {
            if outbox.push(frame) {
                published.outboxes.push(Arc::clone(outbox));
            }
        }
    }
}

impl State {
    pub(super) fn publish(&mut self, frame: &Arc<Frame>, published: &mut Published) {
        if frame.sequence <= self.last_sequence {
            return;
        }
        self.last_sequence = frame.sequence;
        if let Some(recent) = &mut self.recent {
            recent.push(Arc::clone(frame));
        }
        match self.topics.get_mut(&frame.symbol) {
            Some(topic) => {
                topic.newest = Some(Arc::clone(frame));
                topic.audience.deliver(frame, published);
            }
            None => {
                let topic =
                    Topic { newest: Some(Arc::clone(frame)), audience: Audience::default() };
                self.topics.insert(frame.symbol.clone(), topic);
            }
        }
        if !self.wildcards.is_empty() {
            for prefix in selector::prefixes(&frame.symbol) {
                if let Some(audience) = self.wildcards.get(prefix) {
                    audience.deliver(frame, published);
                }
            }
        }
    }

    pub(super) fn audience(&mut self, selector: &Selector) -> &mut Audience {
        match selector {
            Selector::Symbol(symbol) => {
                &mut self.topics.entry(symbol.clone()).or_default().audience
            }
            Selector::Prefix(prefix) => self.wildcards.entry(prefix.clone()).or_default(),
        }
    }

    /// All ticks of `interest` come to a connection from here on.
    pub(super) fn board(&mut self, pipe: &Arc<Pipe>, interest: &Interest) {
        if !interest.is_empty() {
            let lane = self.lane(LaneKey {
                shard: pipe.place.shard,
                format: pipe.format,
                deflates: pipe.deflates,
                selectors: interest.sorted(),
            });
            pipe.board(lane, self.last_sequence);
        }
    }

    /// A connection leaves its lane, if it rides one.
    pub(super) fn leave(&mut self, pipe: &Pipe) {
        if let Some(lane) = pipe.leave() {
            self.remove_lane(&lane);
        }
    }

    /// Nobody waits for anything any more.
    pub(super) fn forget_audiences(&mut self) {
        self.lanes.clear();
        self.wildcards.clear();
        self.topics.values_mut().for_each(|topic| topic.audience = Audience::default());
    }

    /// The lane of a key, made where there is none.
    fn lane(&mut self, key: LaneKey) -> Arc<Lane> {
        if let Some(lane) = self.lanes.get(&key) {
            return Arc::clone(lane);
        }
        let lane = Lane::new(key.clone());
        for selector in &*key.selectors {
            self.audience(selector).lanes.push(Arc::clone(&lane));
        }
        self.lanes.insert(key, Arc::clone(&lane));
        lane
    }

    /// Nobody rides this lane any more.
    fn remove_lane(&mut self, lane: &Arc<Lane>) {
        // One that was forgotten may have a successor.
        if self.lanes.get(&lane.key).is_some_and(|known| Arc::ptr_eq(known, lane)) {
            self.lanes.remove(&lane.key);
        }
        for selector in &*lane.key.selectors {
            remove(&mut self.audience(selector).lanes, lane);
            self.tidy(selector);
        }
    }

    pub(super) fn add_outbox(&mut self, outbox: &Arc<Outbox>, selector: &Selector) {
        self.audience(selector).outboxes.push(Arc::clone(outbox));
    }

    pub(super) fn remove_outbox(&mut self, outbox: &Arc<Outbox>, selector: &Selector) {
        remove(&mut self.audience(selector).outboxes, outbox);
        self.tidy(selector);
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
    fn tidy(&mut self, selector: &Selector) {
        match selector {
            Selector::Symbol(symbol) => {
                let is_empty = |topic: &Topic| topic.newest.is_none() && topic.audience.is_empty();
                if self.topics.get(symbol).is_some_and(is_empty) {
                    self.topics.remove(symbol);
                }
            }
            Selector::Prefix(prefix) => {
                if self.wildcards.get(prefix).is_some_and(Audience::is_empty) {
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

fn remove<T>(list: &mut Vec<Arc<T>>, element: &Arc<T>) {
    if let Some(at) = list.iter().position(|other| Arc::ptr_eq(other, element)) {
        list.swap_remove(at);
    }
}
