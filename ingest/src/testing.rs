//! What tests share: a broker in memory that fails as told, and what is fetched into it.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use nats::{
    Broker, BrokerError, Consumer, Exclusivity, Message, NewMessage, Publisher, Reader, Receipt,
    Start, StreamState,
    topology::{Durable, Stream},
};
use schemas::{Format, RawTick, Symbol, headers};
use tokio::sync::{mpsc::Receiver, watch};

use crate::{
    outlet::outlet,
    source::{FetchError, Followed, Session, Source},
    status::Status,
    stored::Stored,
};

/// What goes wrong with the next session of a [`FakeBroker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be opened.
    Open,
    /// It dies after so many sends, of which only so many are stored.
    Send { after: usize, stored: usize },
    /// It dies after so many receipts; everything sent is stored.
    Confirm { after: usize },
}

/// A broker in memory. Each session consumes one fault; without any left, nothing fails.
/// Its clones are one broker.
#[derive(Clone, Default)]
pub(crate) struct FakeBroker(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    stored: Vec<NewMessage>,
    last_sequence: u64,
    ids: HashSet<String>,
    faults: VecDeque<Fault>,
    most_in_flight: usize,
    sessions: usize,
    /// Its duplicate window is over at once.
    forgetful: bool,
    /// The numbers of the ticks that it refuses.
    refused: Range<usize>,
}

impl Inner {
    /// The receipt; `None` is a refusal.
    fn store(&mut self, message: NewMessage) -> Option<Receipt> {
        let duplicate = !self.ids.insert(id(&message)) && !self.forgetful;
        if !duplicate {
            let number = id(&message).rsplit(':').next().unwrap().parse().ok();
            if number.is_some_and(|number| self.refused.contains(&number)) {
                self.ids.remove(&id(&message));
                return None;
            }
            self.stored.push(message);
            self.last_sequence += 1;
        }
        Some(Receipt { duplicate, sequence: self.last_sequence })
    }
}

fn id(message: &NewMessage) -> String {
    message.headers.iter().find(|(name, _)| *name == headers::MESSAGE_ID).unwrap().1.clone()
}

fn away() -> BrokerError {
    BrokerError::Unreachable("told to fail".into())
}

impl FakeBroker {
    pub(crate) fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let faults = faults.into_iter().collect();
        Self(Arc::new(Mutex::new(Inner { faults, ..Inner::default() })))
    }

    /// One that knows no message again by its id.
    pub(crate) fn forgetful(faults: impl IntoIterator<Item = Fault>) -> Self {
        let broker = Self::new(faults);
        broker.0.lock().unwrap().forgetful = true;
        broker
    }

    /// What goes wrong with the sessions after those that are told already.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap().faults.extend(faults);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn recover(&self) {
        self.0.lock().unwrap().faults.clear();
    }

    /// From now on it refuses the ticks of these numbers.
    pub(crate) fn refuse(&self, numbers: Range<usize>) {
        self.0.lock().unwrap().refused = numbers;
    }

    /// It has a message of that id already.
    pub(crate) fn has(&self, subject: &str, id: &str) {
        let headers = vec![(headers::MESSAGE_ID, id.to_owned())];
        let message = NewMessage { subject: subject.to_owned(), headers, body: Bytes::new() };
        self.0.lock().unwrap().stored.push(message);
    }

    /// What it has is too old, and goes.
    pub(crate) fn forget_messages(&self) {
        self.0.lock().unwrap().stored.clear();
    }

    pub(crate) fn sessions(&self) -> usize {
        self.0.lock().unwrap().sessions
    }

    pub(crate) fn shared(&self) -> Arc<dyn Broker> {
        Arc::new(self.clone())
    }

    pub(crate) fn stored(&self) -> Vec<NewMessage> {
        self.0.lock().unwrap().stored.clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.lock().unwrap().stored.iter().map(id).collect()
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.0.lock().unwrap().faults.len()
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.0.lock().unwrap().most_in_flight
    }
}

#[async_trait]
impl Broker for FakeBroker {
    async fn declare(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        assert_eq!((streams, exclusivity), (&[Stream::Raw][..], Exclusivity::Shared));
        self.0.lock().unwrap().sessions += 1;
        let fault = self.0.lock().unwrap().faults.pop_front();
        if fault == Some(Fault::Open) {
            return Err(away());
        }
        Ok(Box::new(FakeSession {
            broker: self.clone(),
            fault,
            sent: 0,
            confirmed: 0,
            receipts: VecDeque::new(),
        }))
    }

    async fn consumer(&self, _: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        unreachable!("sources only publish")
    }

    async fn reader(
        &self,
        _: Stream,
        _: &[String],
        _: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        unreachable!("sources only publish")
    }

    async fn last(&self, stream: Stream, pattern: &str) -> Result<Option<Message>, BrokerError> {
        assert_eq!(stream, Stream::Raw);
        let is_match = |subject: &str| match pattern.strip_suffix('*') {
            Some(prefix) => subject.starts_with(prefix),
            None => subject == pattern,
        };
        let inner = self.0.lock().unwrap();
        let found = inner.stored.iter().enumerate().rfind(|(_, m)| is_match(&m.subject));
        Ok(found.map(|(index, message)| Message {
            subject: message.subject.clone(),
            headers: message.headers.iter().map(|(name, value)| (*name, value)).collect(),
            body: message.body.clone(),
            sequence: index as u64 + 1,
            stored_at: Timestamp::now(),
        }))
    }

    async fn newest_per_subject(
        &self,
        _: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        unreachable!("sources only publish")
    }

    async fn state(&self, _: Stream) -> Result<StreamState, BrokerError> {
        let last_sequence = self.0.lock().unwrap().last_sequence;
        Ok(StreamState { last_sequence, ..StreamState::default() })
    }
}

struct FakeSession {
    broker: FakeBroker,
    fault: Option<Fault>,
    sent: usize,
    confirmed: usize,
    receipts: VecDeque<Option<Receipt>>,
}

#[async_trait]
impl Publisher for FakeSession {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        let mut inner = self.broker.0.lock().unwrap();
        if let Some(Fault::Send { after, stored }) = self.fault {
            if self.sent == after {
                return Err(away());
            }
            if self.sent >= stored {
                // Lost on the way: no receipt either.
                self.sent += 1;
                return Ok(());
            }
        }
        self.sent += 1;
        let receipt = inner.store(message);
        self.receipts.push_back(receipt);
        inner.most_in_flight = inner.most_in_flight.max(self.receipts.len());
        Ok(())
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        if self.fault == Some(Fault::Confirm { after: self.confirmed }) {
            return Err(away());
        }
        // Receipts take a moment, so that several messages are in flight.
        tokio::time::sleep(Duration::from_micros(10)).await;
        if self.receipts.is_empty() {
            std::future::pending::<()>().await;
        }
        self.confirmed += 1;
        let refused = || BrokerError::Refused("maximum bytes exceeded".into());
        self.receipts.pop_front().unwrap().ok_or_else(refused)
    }

    fn in_flight(&self) -> usize {
        self.receipts.len()
    }
}

/// The `n`th tick of a source.
pub(crate) fn tick(n: usize) -> RawTick {
    RawTick {
        id: format!("sim:1:1:{n}"),
        source: schemas::Source::new("sim").unwrap(),
        symbol: Some(Symbol::new("BRK.B").unwrap()),
        received_at: Timestamp::UNIX_EPOCH,
        content_type: "application/json".into(),
        format: Format::Sim,
        columns: None,
        body: format!("{{\"n\":{n}}}").into(),
    }
}

/// The status of a source that does nothing.
pub(crate) fn status() -> Status {
    Status::of(&schemas::Source::new("sim").unwrap())
}

/// A running session of a source, and what comes out of it.
pub(crate) struct Running {
    pub(crate) ticks: Receiver<RawTick>,
    pub(crate) status: Arc<Status>,
    pub(crate) session: tokio::task::JoinHandle<Result<(), FetchError>>,
    follow: watch::Sender<Arc<BTreeSet<Symbol>>>,
}

/// Starts a session.
pub(crate) fn start(source: impl Source, resume: Option<&str>) -> Running {
    start_with(&FakeBroker::default(), source, resume)
}

/// Starts a session, with what a broker has already.
pub(crate) fn start_with(
    broker: &FakeBroker,
    source: impl Source,
    resume: Option<&str>,
) -> Running {
    // What the program does at its start; a second time is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let status = Arc::new(Status::of(source.name()));
    let (outlet, ticks) = outlet(source.name(), Arc::clone(&status));
    let resume = resume.map(str::to_owned);
    let (follow, symbols) = Followed::new(source.symbols().into_iter().collect());
    let stored = Stored::new(&broker.shared(), source.name());
    let session = Session { resume, stored, symbols, outlet };
    let session = tokio::spawn(async move { source.run(session).await });
    Running { ticks, status, session, follow }
}

impl Running {
    /// The next payload, which must come within five seconds.
    pub(crate) async fn next(&mut self) -> RawTick {
        let next = tokio::time::timeout(Duration::from_secs(5), self.ticks.recv());
        next.await.expect("a payload in time").expect("a payload")
    }

    /// From now on it is to follow these symbols.
    pub(crate) fn follow(&self, symbols: &[&str]) {
        let symbols = symbols.iter().map(|symbol| Symbol::new(symbol).unwrap()).collect();
        self.follow.send(Arc::new(symbols)).unwrap();
    }

    /// Everything until the session ends, and how it ended.
    pub(crate) async fn rest(mut self) -> (Vec<RawTick>, Result<(), FetchError>) {
        let mut ticks = Vec::new();
        while let Some(tick) = self.ticks.recv().await {
            ticks.push(tick);
        }
        (ticks, self.session.await.unwrap())
    }

    /// Waits until something was reported as failed.
    pub(crate) async fn error(&self) -> String {
        for _ in 0..500 {
            if let Some(error) = self.status.snapshot().last_error {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing failed");
    }
}

/// The bodies of ticks, as text.
pub(crate) fn bodies(ticks: &[RawTick]) -> Vec<&str> {
    ticks.iter().map(|tick| text(&tick.body)).collect()
}

/// Bytes as text.
pub(crate) fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
