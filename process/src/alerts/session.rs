//! One session: from taking over `ALERTS` to the first error.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::pending,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use nats::{
    BrokerError, Exclusivity, Message, NewMessage, Publisher, Reader, Receipt, Start,
    topology::Stream,
};
use schemas::{Symbol, alert::Alert, headers, subject};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Judge,
    book::Book,
    rules::{Rules, RulesReceiver},
    saved::{self, POSITION, Position, State},
    tick::Tick,
};
use crate::store::StoreFault;

/// How many alerts may wait for their receipt, and how many more to be sent before no tick is read.
const MAX_IN_FLIGHT: usize = 1_024;
/// How often the state is saved while ticks come: so much is read again after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// How many keys are written at a time.
const AT_ONCE: usize = 64;
/// How many symbols a reader asks for by name; where there are more, it reads all.
const MAX_NAMED: usize = 256;
/// How long a stored alert may keep us waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the state cannot be loaded or saved: {0}")]
    Store(#[from] StoreFault),
    #[error("another session has saved its state")]
    TakenOver,
    #[error("the rules are followed no more")]
    Unfollowed,
}

/// Where an alert is, and what about.
struct Published {
    /// The sequence of its tick in `TICKS`.
    tick: u64,
    /// Its own sequence in `ALERTS`.
    sequence: u64,
}

pub(super) struct Session<'a> {
    judge: &'a Judge,
    rules: RulesReceiver,
    publisher: Box<dyn Publisher>,
    /// `None` while there are no rules.
    reader: Option<Box<dyn Reader>>,
    /// What the reader reads.
    symbols: BTreeSet<Symbol>,
    book: Book,
    /// The alerts that earlier sessions have stored about ticks that this one has not read yet, by
    /// their ids. Bounded by what fires between two saves.
    published: HashMap<String, Published>,
    /// To send. Bounded by [`MAX_IN_FLIGHT`] and what one tick makes: an alert per rule.
    outbox: VecDeque<Alert>,
    /// The last sequence of `ALERTS`.
    last_stored: u64,
    /// The last sequence of `TICKS` that was read.
    read: u64,
    position: Position,
    /// The revision of the key [`POSITION`].
    position_revision: Option<u64>,
    save_at: Instant,
    /// Nothing is read until the state is saved.
    is_saving: bool,
}

impl<'a> Session<'a> {
    /// Takes over the stream, and finds out what earlier sessions have done.
    pub(super) async fn open(judge: &'a Judge, mut rules: RulesReceiver) -> Result<Self, Fault> {
        let all = match rules.wait_for(Option::is_some).await {
            Ok(all) => all.clone().unwrap_or_default(),
            Err(_) => return Err(Fault::Unfollowed),
        };
        // Before anything is loaded: whatever an older session still stores or saves after this is
        // found out when this one first stores or saves something itself.
        let publisher = judge.broker.publisher(&[Stream::Alerts], Exclusivity::Exclusive).await?;
        let mut session = Self {
            judge,
            rules,
            publisher,
            reader: None,
            symbols: BTreeSet::new(),
            book: Book::default(),
            published: HashMap::new(),
            outbox: VecDeque::new(),
            last_stored: 0,
            read: 0,
            position: Position::default(),
            position_revision: None,
            save_at: Instant::now() + SAVE_EVERY,
            is_saving: false,
        };
        session.load(&all).await?;
        session.restore().await?;
        session.adopt(&all).await?;
        Ok(session)
    }

    /// Loads what is saved.
    async fn load(&mut self, rules: &Rules) -> Result<(), Fault> {
        for (key, value, revision) in self.judge.store.load().await? {
            if key == POSITION {
                self.position = serde_json::from_slice(&value).map_err(StoreFault::from)?;
                self.position_revision = Some(revision);
            } else if let Some(id) = saved::rule(&key) {
                match rules.get(id) {
                    Some(rule) => {
                        let state: State =
                            serde_json::from_slice(&value).map_err(StoreFault::from)?;
                        self.book.resume(rule, state, revision);
                    }
                    // It was deleted while nobody judged.
                    None => self.judge.store.delete(&key, revision).await?,
                }
            }
        }
        self.read = self.position.ticks;
        let ticks = self.judge.broker.state(Stream::Ticks).await?;
        if ticks.last_sequence < self.read {
            warn!("TICKS was made anew; the rules go on with what is in it");
            self.read = 0;
            // What is in ALERTS is about the stream before.
            self.position = Position { ticks: 0, alerts: u64::MAX };
            self.book.begin_again();
            self.is_saving = true;
        }
        Ok(())
    }

    /// Reads the alerts that were stored since the state was saved.
    async fn restore(&mut self) -> Result<(), Fault> {
        let state = self.judge.broker.state(Stream::Alerts).await?;
        self.last_stored = state.last_sequence;
        let first = self.position.alerts.max(state.first_sequence);
        if state.messages == 0 || first > state.last_sequence {
            return Ok(());
        }
        let start = Start::Sequence(first);
        let mut reader = self.judge.broker.reader(Stream::Alerts, &[], start).await?;
        loop {
            let Ok(message) = timeout(READ_TIMEOUT, reader.next()).await else {
                let fault = format!("it gives no alert before {}", state.last_sequence);
                return Err(BrokerError::Unreachable(fault).into());
            };
            let message = message?;
            let sequence = message.sequence;
            match serde_json::from_slice::<Alert>(&message.body) {
                Ok(alert) if alert.seq > self.read => {
                    self.published.insert(alert.id, Published { tick: alert.seq, sequence });
                }
                Ok(_) => {}
                Err(fault) => error!(sequence, %fault, "a message of ALERTS is no alert"),
            }
            if sequence >= state.last_sequence {
                return Ok(());
            }
        }
    }

    /// Takes on the rules that are new, drops those that are gone, and reads what matters now.
    async fn adopt(&mut self, rules: &Rules) -> Result<(), Fault> {
        for (id, revision) in self.book.retain(rules) {
            if let Some(revision) = revision {
                self.judge.store.delete(&saved::key(&id), revision).await?;
            }
        }
        let known = self.book.ids();
        let fresh: Vec<_> = rules.values().filter(|rule| !known.contains(&rule.id)).collect();
        if !fresh.is_empty() {
            // What came before a rule is not its concern, and has perhaps not been read for others.
            let now = self.judge.broker.state(Stream::Ticks).await?.last_sequence.max(self.read);
            fresh.into_iter().for_each(|rule| self.book.add(rule, now));
            // Before it is judged.
            self.is_saving = true;
        }
        self.judge.metrics.rules(rules.len());
        let symbols = self.book.symbols();
        if symbols != self.symbols {
            self.symbols = symbols;
            self.reader = self.reader().await?;
        }
        Ok(())
    }

    async fn reader(&mut self) -> Result<Option<Box<dyn Reader>>, BrokerError> {
        if self.symbols.is_empty() {
            return Ok(None);
        }
        let subjects: Vec<String> = if self.symbols.len() <= MAX_NAMED {
            self.symbols.iter().map(subject::tick).collect()
        } else {
            Vec::new()
        };
        let start = Start::Sequence(self.read.max(self.book.oldest_seen()) + 1);
        self.judge.broker.reader(Stream::Ticks, &subjects, start).await.map(Some)
    }

    /// Works until told to stop, or until the first error.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<(), Fault> {
        loop {
            self.send().await?;
            if self.is_saving && self.is_quiet() {
                self.save().await?;
            }
            let has_room = !self.is_saving && self.outbox.len() < MAX_IN_FLIGHT;
            let is_changed = self.read > self.position.ticks;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.end().await,
                receipt = self.publisher.confirmed(), if self.publisher.in_flight() > 0 => {
                    self.settle(receipt?);
                }
                () = sleep_until(self.save_at), if is_changed && !self.is_saving => {
                    self.is_saving = true;
                }
                changed = self.rules.changed(), if has_room => {
                    changed.map_err(|_| Fault::Unfollowed)?;
                    let rules = self.rules.borrow_and_update().clone().unwrap_or_default();
                    self.adopt(&rules).await?;
                }
                message = next(&mut self.reader), if has_room => self.take(&message?),
            }
        }
    }

    fn take(&mut self, message: &Message) {
        let metrics = &self.judge.metrics;
        self.read = message.sequence;
        match Tick::read(&message.body, message.sequence) {
            Ok(tick) => {
                let mut alerts = Vec::new();
                self.book.take(&tick, &mut alerts, |outcome| metrics.taken(outcome));
                alerts.retain(|alert| !self.published.contains_key(&alert.id));
                self.outbox.extend(alerts);
            }
            Err(fault) => {
                metrics.unreadable();
                error!(sequence = message.sequence, %fault, "a message of TICKS is no tick");
            }
        }
    }

    async fn send(&mut self) -> Result<(), BrokerError> {
        while self.publisher.in_flight() < MAX_IN_FLIGHT
            && let Some(alert) = self.outbox.pop_front()
        {
            self.publisher.send(message(&alert)).await?;
        }
        Ok(())
    }

    /// The oldest alert in flight is stored.
    fn settle(&mut self, receipt: Receipt) {
        if !receipt.duplicate {
            // Nobody else writes: what is stored next is the next. A receipt may not say where.
            self.last_stored += 1;
            self.judge.metrics.fired();
        }
    }

    /// Each alert about what was read is stored.
    fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.publisher.in_flight() == 0
    }

    /// Saves the rules that have changed, and then the place.
    async fn save(&mut self) -> Result<(), Fault> {
        let mut unsaved: Vec<_> = self.book.unsaved().collect();
        for batch in unsaved.chunks_mut(AT_ONCE) {
            let values: Vec<(String, Bytes, Option<u64>)> = batch
                .iter()
                .map(|watch| {
                    let value = serde_json::to_vec(watch.state()).map_err(StoreFault::from)?;
                    Ok((saved::key(&watch.rule.id), value.into(), watch.revision))
                })
                .collect::<Result<_, Fault>>()?;
            let saving = values
                .iter()
                .map(|(key, value, revision)| self.judge.store.save(key, value.clone(), *revision));
            for (saved, watch) in join_all(saving).await.into_iter().zip(batch) {
                watch.revision = Some(saved?.ok_or(Fault::TakenOver)?);
                watch.is_unsaved = false;
            }
        }
        self.published.retain(|_, published| published.tick > self.read);
        let next = self.last_stored + 1;
        let alerts = self.published.values().map(|it| it.sequence).min().unwrap_or(next);
        self.position = Position { ticks: self.read, alerts };
        let value = serde_json::to_vec(&self.position).map_err(StoreFault::from)?;
        let saved = self.judge.store.save(POSITION, value.into(), self.position_revision).await?;
        self.position_revision = Some(saved.ok_or(Fault::TakenOver)?);
        self.save_at = Instant::now() + SAVE_EVERY;
        self.is_saving = false;
        Ok(())
    }

    /// Saves what was read, as far as the deadline lets it. The rest is read again.
    async fn end(mut self) -> Result<(), Fault> {
        if self.read == self.position.ticks && !self.is_saving {
            return Ok(());
        }
        let deadline = self.judge.drain_deadline;
        let saving = async {
            while !self.is_quiet() {
                self.send().await?;
                let receipt = self.publisher.confirmed().await?;
                self.settle(receipt);
            }
            self.save().await
        };
        match timeout(deadline, saving).await {
            Ok(saved) => saved,
            Err(_) => {
                warn!("the rules were not saved before the deadline; their ticks are read again");
                Ok(())
            }
        }
    }
}

/// The next tick that matters; pending for ever where none does.
async fn next(reader: &mut Option<Box<dyn Reader>>) -> Result<Message, BrokerError> {
    match reader {
        Some(reader) => reader.next().await,
        None => pending().await,
    }
}

fn message(alert: &Alert) -> NewMessage {
    #[expect(clippy::expect_used, reason = "texts and numbers into memory: nothing that can fail")]
    let body = serde_json::to_vec(alert).expect("an alert is JSON");
    NewMessage {
        subject: subject::alert(&alert.symbol),
        headers: vec![
            (headers::MESSAGE_ID, alert.id.clone()),
            (headers::CONTENT_TYPE, "application/json".to_owned()),
        ],
        body: Bytes::from(body),
    }
}
