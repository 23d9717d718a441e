//! The transfer between a broker and a store that do what the test wants.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use service::Health;

use super::{
    super::{Order, Place, Selection, StoreError},
    *,
};

/// What happened, in order.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Stored(Vec<u64>),
    Refused,
    Acknowledged(u64),
}

type Events = Arc<Mutex<Vec<Event>>>;

/// What the store does with an attempt; it takes everything when it has no more of them.
#[derive(Clone, Copy)]
enum Attempt {
    Refuse,
    Hang,
}

struct FakeStore {
    attempts: Mutex<VecDeque<Attempt>>,
    events: Events,
}

#[async_trait]
impl RawStore for FakeStore {
    async fn store(&self, records: &[RawRecord]) -> Result<(), StoreError> {
        let attempt = self.attempts.lock().unwrap().pop_front();
        match attempt {
            None => {
                let sequences = records.iter().map(|record| record.raw_seq).collect();
                self.events.lock().unwrap().push(Event::Stored(sequences));
                Ok(())
            }
            Some(Attempt::Refuse) => {
                self.events.lock().unwrap().push(Event::Refused);
                Err(StoreError::sqlite("database or disk is full"))
            }
            Some(Attempt::Hang) => pending().await,
        }
    }

    async fn get(&self, _: &str) -> Result<Option<RawRecord>, StoreError> {
        Ok(None)
    }

    async fn page(
        &self,
        _: &Selection,
        _: Order,
        _: Option<&Place>,
        _: u32,
    ) -> Result<Vec<RawRecord>, StoreError> {
        Ok(Vec::new())
    }

    async fn count(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// Delivers its messages, then an error or nothing any more.
struct FakeConsumer {
    messages: VecDeque<Message>,
    breaks: bool,
    events: Events,
}

#[async_trait]
impl Consumer for FakeConsumer {
    async fn next(&mut self) -> Result<Message, BrokerError> {
        match self.messages.pop_front() {
            Some(message) => Ok(message),
            None if self.breaks => Err(BrokerError::Unreachable("gone".into())),
            None => pending().await,
        }
    }

    async fn acknowledge(&mut self, sequence: u64) -> Result<(), BrokerError> {
        self.events.lock().unwrap().push(Event::Acknowledged(sequence));
        Ok(())
    }
}

struct Scene {
    store: FakeStore,
    consumer: FakeConsumer,
    check: Check,
    stop: CancellationToken,
    events: Events,
}

impl Scene {
    /// So many messages of so many bytes each, and what the store does first.
    fn new(messages: u64, bytes: usize, attempts: &[Attempt]) -> Self {
        let events = Events::default();
        let message = |sequence| Message {
            subject: "ticks.raw.sim.IBM".into(),
            headers: nats::Headers::default(),
            body: vec![0; bytes].into(),
            sequence,
            stored_at: jiff::Timestamp::UNIX_EPOCH,
        };
        Self {
            store: FakeStore {
                attempts: Mutex::new(attempts.iter().copied().collect()),
                events: events.clone(),
            },
            consumer: FakeConsumer {
                messages: (1..=messages).map(message).collect(),
                breaks: false,
                events: events.clone(),
            },
            check: Health::default().check("archive"),
            stop: CancellationToken::new(),
            events,
        }
    }

    fn transfer(&mut self) -> (Transfer<'_>, &mut FakeConsumer) {
        let Self { store, consumer, check, stop, .. } = self;
        (Transfer { store, check, stop, patience: Duration::from_secs(5) }, consumer)
    }

    /// Runs until stopped so much later, or until the broker fails.
    async fn run(&mut self, stop_after: Duration) -> Result<(), BrokerError> {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            sleep(stop_after).await;
            stop.cancel();
        });
        let (transfer, consumer) = self.transfer();
        transfer.run(consumer, &mut backoff()).await
    }

    fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_in_messages_in_bytes_and_in_time() {
    let mut many = Scene::new(1_500, 10, &[]);
    let (transfer, consumer) = many.transfer();
    let batch = transfer.gather(consumer).await.unwrap().unwrap();
    assert_eq!((batch.records.len(), batch.last_sequence), (1_000, 1_000));

    let mut large = Scene::new(9, 3 * 1024 * 1024, &[]);
    let (transfer, consumer) = large.transfer();
    let batch = transfer.gather(consumer).await.unwrap().unwrap();
    assert_eq!((batch.records.len(), batch.last_sequence), (3, 3));

    let mut few = Scene::new(2, 10, &[]);
    let (transfer, consumer) = few.transfer();
    let start = Instant::now();
    let batch = transfer.gather(consumer).await.unwrap().unwrap();
    assert_eq!((batch.records.len(), batch.last_sequence), (2, 2));
    assert_eq!(start.elapsed().as_millis(), 50);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_stored_is_acknowledged() {
    let mut scene = Scene::new(2, 10, &[Attempt::Refuse, Attempt::Refuse, Attempt::Hang]);
    scene.run(Duration::from_secs(3_600)).await.unwrap();
    let expected =
        [Event::Refused, Event::Refused, Event::Stored(vec![1, 2]), Event::Acknowledged(2)];
    assert_eq!(scene.events(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_the_batch_in_hand() {
    let mut scene = Scene::new(2, 10, &[]);
    scene.run(Duration::from_millis(20)).await.unwrap();
    assert_eq!(scene.events(), [Event::Stored(vec![1, 2]), Event::Acknowledged(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_store_that_is_down() {
    for attempts in [[Attempt::Hang; 64], [Attempt::Refuse; 64]] {
        let mut scene = Scene::new(2, 10, &attempts);
        let start = Instant::now();
        scene.run(Duration::from_secs(60)).await.unwrap();
        assert!(start.elapsed() <= Duration::from_secs(65), "{:?}", start.elapsed());
        assert!(scene.events().iter().all(|event| *event == Event::Refused));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_broker_ends_the_session_and_acknowledges_nothing() {
    let mut scene = Scene::new(2, 10, &[]);
    scene.consumer.breaks = true;
    let ended = scene.run(Duration::from_secs(3_600)).await;
    assert!(matches!(ended, Err(BrokerError::Unreachable(_))));
    assert_eq!(scene.events(), []);
}
