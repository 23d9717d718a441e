//! One session: from taking over the consumer to the first error.

use std::{collections::VecDeque, time::Duration};

use futures_util::future::join_all;
use nats::{
    BrokerError, Consumer, Exclusivity, LiveMessage, Message, Publisher, Receipt, Start,
    topology::{self, Stream},
};
use schemas::{CandleUpdate, Symbol};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Maker,
    book::{Book, Emission},
    saved::{self, FORGOTTEN, POSITION, Saved},
    series::Stored,
    trade::Trade,
};
use crate::store::StoreFault;

/// How many candles may wait for their receipt, and how many more to be sent before no trade is
/// read.
const MAX_IN_FLIGHT: usize = 2_048;
/// How often what is due is looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// How often the state is saved while ticks come: so much is read again after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// After how many ticks it is saved even sooner.
const SAVE_AFTER: u64 = topology::CANDLES.window as u64 / 2;
/// How many keys are written at a time.
const AT_ONCE: usize = 64;
/// How long a stored candle may keep us waiting.
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
    #[error("CANDLES had a candle already: what is stored must be read again")]
    Repeated,
}

pub(super) struct Session<'a> {
    maker: &'a Maker,
    publisher: Box<dyn Publisher>,
    consumer: Box<dyn Consumer>,
    book: Book<'a>,
    /// To send. Bounded by [`MAX_IN_FLIGHT`] and what one trade or one symbol makes.
    outbox: VecDeque<Emission>,
    in_flight: VecDeque<Stored>,
    /// The last sequence of `CANDLES`.
    last_stored: u64,
    /// The last sequence of `TICKS` that was read, and the last acknowledged.
    read: u64,
    acknowledged: u64,
    save_at: Instant,
    /// Nothing is read until the state is saved.
    is_saving: bool,
    /// The revisions of the keys [`POSITION`] and [`FORGOTTEN`].
    position_revision: Option<u64>,
    forgotten_revision: Option<u64>,
}

impl<'a> Session<'a> {
    /// Takes over the streams, and finds out what earlier sessions have done.
    pub(super) async fn open(maker: &'a Maker) -> Result<Self, Fault> {
        // In this order: whatever an older session still stores or saves after this is found out
        // when this one first stores or saves something itself.
        let publisher = maker.broker.publisher(&[Stream::Candles], Exclusivity::Exclusive).await?;
        let consumer = maker.broker.consumer(&topology::CANDLES).await?;
        let mut session = Self {
            maker,
            publisher,
            consumer,
            book: Book::new(&maker.config, &maker.calendars, maker.max_symbols),
            outbox: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_stored: 0,
            read: 0,
            acknowledged: 0,
            save_at: Instant::now() + SAVE_EVERY,
            is_saving: false,
            position_revision: None,
            forgotten_revision: None,
        };
        let position = session.load().await?;
        session.restore(position).await?;
        Ok(session)
    }

    /// Loads what is saved; the first sequence of `CANDLES` that still counts.
    async fn load(&mut self) -> Result<u64, Fault> {
        let mut symbols = Vec::new();
        let mut position = 1;
        for (key, value, revision) in self.maker.store.load().await? {
            if key == POSITION {
                position = serde_json::from_slice(&value).map_err(StoreFault::from)?;
                self.position_revision = Some(revision);
            } else if key == FORGOTTEN {
                let forgotten = serde_json::from_slice(&value).map_err(StoreFault::from)?;
                self.book.resume_forgotten(forgotten);
                self.forgotten_revision = Some(revision);
            } else if let Some(symbol) = saved::symbol(&key) {
                let snapshot = serde_json::from_slice(&value).map_err(StoreFault::from)?;
                symbols.push(Saved { symbol, snapshot, revision });
            }
        }
        self.book.resume(symbols, Instant::now());
        Ok(position)
    }

    /// Reads the closed candles that still count.
    async fn restore(&mut self, position: u64) -> Result<(), Fault> {
        let state = self.maker.broker.state(Stream::Candles).await?;
        self.last_stored = state.last_sequence;
        let first = position.max(state.first_sequence);
        if state.messages == 0 || first > state.last_sequence {
            return Ok(());
        }
        let start = Start::Sequence(first);
        let mut reader = self.maker.broker.reader(Stream::Candles, &[], start).await?;
        loop {
            let Ok(message) = timeout(READ_TIMEOUT, reader.next()).await else {
                let fault = format!("it gives no candle before {}", state.last_sequence);
                return Err(BrokerError::Unreachable(fault).into());
            };
            let message = message?;
            match serde_json::from_slice::<CandleUpdate>(&message.body) {
                Ok(update) => self.book.restore(update, message.sequence, Instant::now()),
                Err(fault) => {
                    error!(sequence = message.sequence, %fault, "a message of CANDLES is no candle");
                }
            }
            if message.sequence >= state.last_sequence {
                return Ok(());
            }
        }
    }

    /// Works until told to stop, or until the first error.
    pub(super) async fn run(
        mut self,
        stop: &CancellationToken,
        running: &mpsc::Sender<Vec<LiveMessage>>,
    ) -> Result<(), Fault> {
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut show_at = Instant::now() + self.maker.running_every();
        loop {
            self.send().await?;
            if self.is_saving && self.is_quiet() {
                self.save().await?;
            }
            let has_room = !self.is_saving && self.outbox.len() < MAX_IN_FLIGHT;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.end().await,
                receipt = self.publisher.confirmed(), if !self.in_flight.is_empty() => {
                    self.settle(receipt?)?;
                }
                now = sweep.tick() => {
                    self.sweep();
                    if now >= show_at && self.maker.config.running_ms > 0 {
                        show_at = now + self.maker.running_every();
                        // While the last ones are still on their way, these wait, and change.
                        if let Ok(place) = running.try_reserve() {
                            place.send(self.book.running());
                        }
                    }
                }
                message = self.consumer.next(), if has_room => self.take(&message?),
            }
        }
    }

    fn take(&mut self, message: &Message) {
        let metrics = &self.maker.metrics;
        self.read = message.sequence;
        match Trade::read(&message.body, message.sequence) {
            Ok(Some(trade)) => {
                metrics.taken(self.book.take(&trade, Instant::now(), &mut self.outbox));
            }
            Ok(None) => metrics.other(),
            Err(fault) => {
                metrics.unreadable();
                error!(sequence = message.sequence, %fault, "a message of TICKS is no tick");
            }
        }
        if self.acknowledged == 0 {
            self.acknowledged = message.sequence - 1;
        }
        self.is_saving |= self.read - self.acknowledged >= SAVE_AFTER;
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        let room = MAX_IN_FLIGHT.saturating_sub(self.outbox.len());
        self.outbox.extend(self.book.sweep(now, room));
        self.is_saving |= self.read > self.acknowledged && now >= self.save_at;
    }

    async fn send(&mut self) -> Result<(), BrokerError> {
        while self.in_flight.len() < MAX_IN_FLIGHT
            && let Some((candle, message)) = self.outbox.pop_front()
        {
            self.publisher.send(message).await?;
            self.in_flight.push_back(candle);
        }
        Ok(())
    }

    /// The oldest candle in flight is stored.
    fn settle(&mut self, receipt: Receipt) -> Result<(), Fault> {
        if receipt.duplicate {
            return Err(Fault::Repeated);
        }
        let Some(candle) = self.in_flight.pop_front() else { return Ok(()) };
        // Nobody else writes: what is stored next is the next. A receipt may not say where.
        self.last_stored += 1;
        self.book.confirm(&candle, self.last_stored);
        self.maker.metrics.stored(candle.interval, candle.revision);
        Ok(())
    }

    /// Everything that was read is either in a candle that is running or in one that is stored.
    fn is_quiet(&mut self) -> bool {
        if self.outbox.is_empty() && self.in_flight.is_empty() {
            // Late trades that closed candles were not published with yet.
            self.outbox.extend(self.book.sweep(Instant::now(), MAX_IN_FLIGHT));
        }
        self.outbox.is_empty() && self.in_flight.is_empty()
    }

    /// Saves the state and acknowledges what is in it. In this order: what is saved too seldom is
    /// read again, what is acknowledged too early is lost.
    async fn save(&mut self) -> Result<(), Fault> {
        let unsaved: Vec<(Symbol, String, bytes::Bytes, Option<u64>)> = self
            .book
            .unsaved()
            .map(|(symbol, snapshot, revision)| {
                let value = serde_json::to_vec(&snapshot).map_err(StoreFault::from)?;
                Ok((symbol.clone(), saved::key(symbol), value.into(), revision))
            })
            .collect::<Result<_, Fault>>()?;
        for batch in unsaved.chunks(AT_ONCE) {
            let saving = batch.iter().map(|(_, key, value, revision)| {
                self.maker.store.save(key, value.clone(), *revision)
            });
            for ((symbol, ..), saved) in batch.iter().zip(join_all(saving).await) {
                self.book.saved(symbol, saved?.ok_or(Fault::TakenOver)?);
            }
        }
        let position = self.book.oldest_stored().unwrap_or(self.last_stored + 1);
        let value = position.to_string().into_bytes().into();
        let saved = self.maker.store.save(POSITION, value, self.position_revision).await?;
        self.position_revision = Some(saved.ok_or(Fault::TakenOver)?);
        self.consumer.acknowledge(self.read).await?;
        self.acknowledged = self.read;
        self.make_room().await?;
        self.save_at = Instant::now() + SAVE_EVERY;
        self.is_saving = false;
        Ok(())
    }

    /// Forgets symbols where there are many, when all that was read is saved.
    async fn make_room(&mut self) -> Result<(), Fault> {
        let store = &self.maker.store;
        let forgotten = self.book.make_room(Instant::now());
        if forgotten.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(self.book.forgotten()).map_err(StoreFault::from)?;
        let saved = store.save(FORGOTTEN, value.into(), self.forgotten_revision).await?;
        self.forgotten_revision = Some(saved.ok_or(Fault::TakenOver)?);
        for batch in forgotten.chunks(AT_ONCE) {
            let deleting = batch.iter().filter_map(|(symbol, revision)| {
                let (key, revision) = (saved::key(symbol), (*revision)?);
                Some(async move { store.delete(&key, revision).await })
            });
            join_all(deleting).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    /// Saves what was read, as far as the deadline lets it. The rest is read again.
    async fn end(mut self) -> Result<(), Fault> {
        if self.read == self.acknowledged {
            return Ok(());
        }
        let deadline = self.maker.drain_deadline;
        let saving = async {
            while !self.is_quiet() {
                self.send().await?;
                let receipt = self.publisher.confirmed().await?;
                self.settle(receipt)?;
            }
            self.save().await
        };
        match timeout(deadline, saving).await {
            Ok(saved) => saved,
            Err(_) => {
                warn!("candles were not saved before the deadline; their trades are read again");
                Ok(())
            }
        }
    }
}
