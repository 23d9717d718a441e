//! What is asked of a provider: to follow symbols and to leave them, one request after the other.
//!
//! A request is sent when the one before is answered, and no sooner than the provider allows. One
//! that is refused names the symbol that is to blame, or else is cut in halves until it is found:
//! so a symbol that the provider does not know takes no other with it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use schemas::Symbol;
use tokio::time::Instant;

use super::{Action, Answers, Notice, Terms};

/// What was asked for, and what is to be.
pub(super) struct Requests {
    terms: Terms,
    patience: Duration,
    wanted: Arc<BTreeSet<Symbol>>,
    /// What the provider sends us, as far as we know.
    active: BTreeSet<Symbol>,
    /// What the provider refuses. It is asked again when it was not wanted in between.
    refused: BTreeSet<Symbol>,
    /// What there is no room for.
    beyond: BTreeSet<Symbol>,
    /// Parts of requests that were refused as a whole, to be asked for one by one.
    parts: VecDeque<BTreeSet<Symbol>>,
    open: Option<Open>,
    /// Nothing is to be asked: looked at for every message, and worked out at every change.
    settled: bool,
    /// The next request is sent no sooner.
    next: Instant,
    number: u64,
}

/// The request that is not answered yet.
struct Open {
    action: Action,
    number: u64,
    symbols: BTreeSet<Symbol>,
    since: Instant,
}

/// A request to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) action: Action,
    pub(super) symbols: Vec<Symbol>,
    pub(super) number: u64,
}

/// A symbol that is not followed, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) symbol: Symbol,
    pub(super) why: String,
}

impl Requests {
    pub(super) fn new(terms: Terms, patience: Duration, now: Instant) -> Self {
        Self {
            terms,
            patience,
            wanted: Arc::default(),
            active: BTreeSet::new(),
            refused: BTreeSet::new(),
            beyond: BTreeSet::new(),
            parts: VecDeque::new(),
            open: None,
            settled: true,
            next: now,
            number: 0,
        }
    }

    /// These are to be followed. What is beyond the provider's limit is refused at once.
    pub(super) fn want(&mut self, symbols: Arc<BTreeSet<Symbol>>) -> Vec<Refusal> {
        self.wanted = symbols;
        self.refused.retain(|symbol| self.wanted.contains(symbol));
        let most = self.terms.max_symbols;
        let kept = self.active.intersection(&self.wanted).count();
        let new =
            self.wanted.iter().filter(|s| !self.active.contains(s) && !self.refused.contains(s));
        let beyond: BTreeSet<Symbol> = new.skip(most.saturating_sub(kept)).cloned().collect();
        let why = || format!("one connection follows at most {most} symbols");
        let told = beyond.difference(&self.beyond);
        let refusals = told.map(|symbol| Refusal { symbol: symbol.clone(), why: why() }).collect();
        self.beyond = beyond;
        self.settle();
        refusals
    }

    fn settle(&mut self) {
        self.settled = self.active.is_subset(&self.wanted)
            && !self.wanted.iter().any(|symbol| self.is_missing(symbol));
    }

    /// The request to be sent now, if there is one. It counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> Option<Request> {
        if self.settled || self.open.is_some() || now < self.next {
            return None;
        }
        let (action, symbols) = self.needed()?;
        self.number += 1;
        self.next = now + self.terms.request_interval;
        let request =
            Request { action, symbols: symbols.iter().cloned().collect(), number: self.number };
        let open = Open { action, number: self.number, symbols, since: now };
        match self.terms.answers {
            Answers::Whole | Answers::PerSymbol => self.open = Some(open),
            Answers::Never => {
                self.done(open.action, open.symbols);
                self.settle();
            }
        }
        Some(request)
    }

    /// Leaving comes first: it makes room.
    fn needed(&mut self) -> Option<(Action, BTreeSet<Symbol>)> {
        let most = self.terms.symbols_per_request;
        let leave: BTreeSet<_> = self.active.difference(&self.wanted).take(most).cloned().collect();
        if !leave.is_empty() {
            return Some((Action::Leave, leave));
        }
        while let Some(part) = self.parts.pop_front() {
            let part: BTreeSet<_> = part.into_iter().filter(|s| self.is_missing(s)).collect();
            if !part.is_empty() {
                return Some((Action::Follow, part));
            }
        }
        let missing = self.wanted.iter().filter(|symbol| self.is_missing(symbol));
        let follow: BTreeSet<_> = missing.take(most).cloned().collect();
        (!follow.is_empty()).then_some((Action::Follow, follow))
    }

    fn is_missing(&self, symbol: &Symbol) -> bool {
        self.wanted.contains(symbol) && !self.active.contains(symbol) && !self.is_refused(symbol)
    }

    /// Takes an answer; what it refuses is told. A notice that answers nothing is passed over.
    pub(super) fn answered(&mut self, notice: Notice) -> Vec<Refusal> {
        let refusals = self.take(notice);
        self.settle();
        refusals
    }

    fn take(&mut self, notice: Notice) -> Vec<Refusal> {
        match notice {
            Notice::Following(all) => self.following(all),
            Notice::Done(symbol) => {
                if let Some(action) = self.close(&symbol) {
                    self.done(action, [symbol].into());
                }
                Vec::new()
            }
            Notice::AllDone(number) => {
                if let Some(open) = self.open.take_if(|open| open.number == number) {
                    self.done(open.action, open.symbols);
                }
                Vec::new()
            }
            Notice::Refused(symbol, why) => self.refuse(symbol, why),
            _ => Vec::new(),
        }
    }

    fn following(&mut self, all: BTreeSet<Symbol>) -> Vec<Refusal> {
        let asked = self.open.take().filter(|open| open.action == Action::Follow);
        let left_out = asked.map(|open| open.symbols).unwrap_or_default();
        let left_out: Vec<Symbol> = left_out.difference(&all).cloned().collect();
        self.active = all;
        self.refused.extend(left_out.iter().cloned());
        let why = "the provider does not name it among what it sends";
        left_out.into_iter().map(|symbol| Refusal { symbol, why: why.to_owned() }).collect()
    }

    /// The open request is answered for this symbol; `None` where it does not ask for it.
    fn close(&mut self, symbol: &Symbol) -> Option<Action> {
        let open = self.open.as_mut()?;
        if !open.symbols.remove(symbol) {
            return None;
        }
        let action = open.action;
        self.open.take_if(|open| open.symbols.is_empty());
        Some(action)
    }

    fn refuse(&mut self, symbol: Option<Symbol>, why: String) -> Vec<Refusal> {
        if self.terms.answers == Answers::PerSymbol
            && let Some(symbol) = &symbol
        {
            return match self.close(symbol) {
                Some(Action::Follow) => self.blame(symbol.clone(), why),
                Some(Action::Leave) => {
                    self.active.remove(symbol);
                    Vec::new()
                }
                None => Vec::new(),
            };
        }
        let Some(mut open) = self.open.take() else { return Vec::new() };
        if open.action == Action::Leave {
            // What it does not know it does not send.
            open.symbols.iter().for_each(|symbol| {
                self.active.remove(symbol);
            });
            return Vec::new();
        }
        let to_blame = symbol.or_else(|| match open.symbols.len() {
            1 => open.symbols.first().cloned(),
            _ => None,
        });
        let Some(symbol) = to_blame else {
            let half = open.symbols.iter().nth(open.symbols.len() / 2).cloned();
            let rest = half.map(|half| open.symbols.split_off(&half)).unwrap_or_default();
            self.parts.extend([open.symbols, rest]);
            return Vec::new();
        };
        open.symbols.remove(&symbol);
        if !open.symbols.is_empty() {
            self.parts.push_front(open.symbols);
        }
        self.blame(symbol, why)
    }

    fn blame(&mut self, symbol: Symbol, why: String) -> Vec<Refusal> {
        self.refused.insert(symbol.clone());
        vec![Refusal { symbol, why }]
    }

    fn done(&mut self, action: Action, symbols: BTreeSet<Symbol>) {
        match action {
            Action::Follow => self.active.extend(symbols),
            Action::Leave => self.active.retain(|symbol| !symbols.contains(symbol)),
        }
    }

    fn is_refused(&self, symbol: &Symbol) -> bool {
        self.refused.contains(symbol) || self.beyond.contains(symbol)
    }

    /// Whether a request waits for its answer.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// For so long nobody has listened for answers.
    pub(super) fn was_deaf(&mut self, time: Duration) {
        if let Some(open) = &mut self.open {
            open.since += time;
        }
    }

    /// Whether a request has waited too long for its answer.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| now >= open.since + self.patience)
    }

    /// When to look at the time next; `None` where nothing is to be asked.
    pub(super) fn wake(&self) -> Option<Instant> {
        if let Some(open) = &self.open {
            return Some(open.since + self.patience);
        }
        (!self.settled).then_some(self.next)
    }

    /// Whether nothing is wanted.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether a symbol is to be followed.
    pub(super) fn wants(&self, symbol: &Symbol) -> bool {
        self.wanted.contains(symbol)
    }

    /// Whether the provider sends us anything.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Whether the provider refuses all that is wanted.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.wanted.is_empty() && self.wanted.iter().all(|symbol| self.is_refused(symbol))
    }
}

#[cfg(test)]
mod tests;
