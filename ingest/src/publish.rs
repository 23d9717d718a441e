//! Publishing what one source fetched, in its order, until the broker has it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use metrics::{Counter, Gauge};
use nats::{Broker, BrokerError, Exclusivity, NewMessage, Publisher, Receipt, topology::Stream};
use schemas::{RawTick, headers, subject};
use service::Backoff;
use tokio::{sync::mpsc::Receiver, time::sleep};
use tracing::{error, warn};

use crate::{metrics as names, source::ErrorKind, status::Status};

/// How many payloads, and but for the last batch how many bytes of them, are in flight at most.
/// They are kept until they are confirmed, to be sent again where the session dies.
const WINDOW: usize = 1_024;
const WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// How many payloads are sent before receipts are looked at.
const BATCH: usize = 64;

/// The first and the longest wait before the next session, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Publishes what `window` still holds, then everything from `intake` until it is closed, and
/// returns when all of it is stored. Dropped before that, the window holds what is not confirmed.
pub(crate) async fn publish(
    broker: &Arc<dyn Broker>,
    window: &mut Window,
    intake: &mut Receiver<RawTick>,
) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut refused = false;
    while let Err(fault) = session(broker, window, intake, refused, &mut backoff).await {
        refused = matches!(fault, BrokerError::Refused(_));
        let (source, unconfirmed) = (&window.source, window.payloads.len());
        if refused {
            names::fetch_errors(source, ErrorKind::Refused).increment(1);
            error!(%source, unconfirmed, error = %fault, "the broker refuses payloads; trying again");
        } else {
            names::fetch_errors(source, ErrorKind::Broker).increment(1);
            warn!(%source, unconfirmed, error = %fault, "publishing was interrupted; trying again");
        }
        window.status.publishing_failed(&fault);
        sleep(backoff.next_delay()).await;
    }
}

/// The id of the newest message of the source that the broker has.
pub(crate) async fn newest_id(
    broker: &Arc<dyn Broker>,
    source: &schemas::Source,
) -> Result<Option<String>, BrokerError> {
    let newest = broker.last(Stream::Raw, &subject::all_raw_of(source)).await?;
    Ok(newest.and_then(|message| message.header(headers::MESSAGE_ID).map(str::to_owned)))
}

/// One publishing session: first what an earlier one left unconfirmed, in order, then what comes
/// in. What is stored of the earlier one is a prefix, and is not sent again: the stream would know
/// it by its message id, but only for as long as its duplicate window. For what the server is only
/// about to store, that is long enough.
///
/// After a refusal nothing counts as stored but what is confirmed, because a smaller payload may
/// have found room behind the one that was refused; and nothing follows that one until it is taken.
async fn session(
    broker: &Arc<dyn Broker>,
    window: &mut Window,
    intake: &mut Receiver<RawTick>,
    refused: bool,
    backoff: &mut Backoff,
) -> Result<(), BrokerError> {
    let mut publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await?;
    if refused {
        if let Some(first) = window.payloads.front() {
            publisher.send(message(first)).await?;
            window.confirmed(publisher.confirmed().await?);
        }
    } else if !window.is_empty()
        && let Some(stored) = newest_id(broker, &window.source).await?
    {
        window.stored(&stored);
    }
    if window.is_empty() {
        window.status.publishing_works();
    }
    for payload in &window.payloads {
        publisher.send(message(payload)).await?;
    }
    let mut open = true;
    let mut fetched = Vec::with_capacity(BATCH);
    while open || !window.is_empty() {
        tokio::select! {
            biased;
            receipt = publisher.confirmed(), if !window.is_empty() => {
                let receipt = receipt?;
                if !receipt.duplicate {
                    backoff.reset();
                }
                window.confirmed(receipt);
                window.status.publishing_works();
            }
            count = intake.recv_many(&mut fetched, BATCH), if open && !window.is_full() => {
                open = count > 0;
                send(&mut *publisher, window, &mut fetched).await?;
            }
        }
    }
    Ok(())
}

/// All of it is in the window before any of it is sent: what fails on the way is there for the
/// next session.
async fn send(
    publisher: &mut dyn Publisher,
    window: &mut Window,
    fetched: &mut Vec<RawTick>,
) -> Result<(), BrokerError> {
    let first = window.payloads.len();
    fetched.drain(..).for_each(|payload| window.push(payload));
    for payload in window.payloads.range(first..) {
        publisher.send(message(payload)).await?;
    }
    Ok(())
}

/// A payload as it goes to the broker.
pub(crate) fn message(payload: &RawTick) -> NewMessage {
    NewMessage {
        subject: subject::raw(&payload.source, payload.symbol.as_ref()),
        headers: payload.headers(),
        body: payload.body.clone(),
    }
}

/// What was fetched and is not confirmed, oldest first.
pub(crate) struct Window {
    source: schemas::Source,
    status: Arc<Status>,
    payloads: VecDeque<RawTick>,
    bytes: usize,
    newest_confirmed: Option<String>,
    published: Counter,
    duplicates: Counter,
    in_flight: Gauge,
}

impl Window {
    pub(crate) fn new(source: &schemas::Source, status: Arc<Status>) -> Self {
        Self {
            source: source.clone(),
            status,
            payloads: VecDeque::with_capacity(WINDOW),
            bytes: 0,
            newest_confirmed: None,
            published: names::published(source),
            duplicates: names::duplicates(source),
            in_flight: names::in_flight(),
        }
    }

    /// Where fetching goes on, now that we own the source (again): `stored` is the id of its newest
    /// message that the broker has.
    ///
    /// What we had fetched and not confirmed when the lease was lost comes first, unless another
    /// instance has published since: then ours is old, and would come out of order.
    pub(crate) fn resume(&mut self, stored: Option<String>) -> Option<String> {
        let is_ours = stored.is_none()
            || stored == self.newest_confirmed
            || self.payloads.iter().any(|payload| Some(&payload.id) == stored.as_ref());
        if !is_ours && !self.payloads.is_empty() {
            let (source, payloads) = (&self.source, self.payloads.len());
            warn!(%source, payloads, "another instance has gone on; what was left here is dropped");
            self.clear();
        }
        self.payloads.back().map(|payload| payload.id.clone()).or(stored)
    }

    /// Keeps what was fetched and not yet sent.
    pub(crate) fn push(&mut self, payload: RawTick) {
        self.bytes += payload.body.len();
        self.payloads.push_back(payload);
        self.in_flight.increment(1);
    }

    /// Whether everything in it is confirmed.
    pub(crate) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    fn is_full(&self) -> bool {
        self.payloads.len() + BATCH > WINDOW || self.bytes >= WINDOW_BYTES
    }

    /// Everything up to the payload of this id is stored, if it is one of ours.
    fn stored(&mut self, id: &str) {
        let newest = self.payloads.iter().position(|payload| payload.id == id);
        for _ in 0..newest.map_or(0, |newest| newest + 1) {
            self.confirmed(Receipt { duplicate: false, sequence: 0 });
        }
    }

    fn confirmed(&mut self, receipt: Receipt) {
        let Some(payload) = self.payloads.pop_front() else { return };
        self.bytes -= payload.body.len();
        self.newest_confirmed = Some(payload.id);
        self.in_flight.decrement(1);
        if receipt.duplicate {
            self.duplicates.increment(1);
        } else {
            self.published.increment(1);
            self.status.published();
        }
    }

    fn clear(&mut self) {
        self.in_flight.decrement(self.payloads.len() as f64);
        self.payloads.clear();
        self.bytes = 0;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use schemas::http::SourceState;

    use super::*;
    use crate::testing::{FakeBroker, Fault, status, tick};

    fn window() -> Window {
        Window::new(&schemas::Source::new("sim").unwrap(), Arc::new(status()))
    }

    async fn publish_all(broker: &FakeBroker, count: usize) -> Window {
        let (sender, mut intake) = tokio::sync::mpsc::channel(64);
        let (shared, mut window) = (broker.shared(), window());
        tokio::join!(publish(&shared, &mut window, &mut intake), async move {
            for n in 0..count {
                sender.send(tick(n)).await.unwrap();
            }
        });
        window
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| tick(n).id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_stored_in_order_with_its_envelope() {
        let broker = FakeBroker::new([]);
        let window = publish_all(&broker, 3_000).await;
        assert_eq!(broker.ids(), ids(3_000));
        let first = &broker.stored()[0];
        assert_eq!(first.subject, "ticks.raw.sim.BRK=2EB");
        assert_eq!(first.headers, tick(0).headers());
        assert_eq!(first.body, tick(0).body);
        assert_eq!(window.status.snapshot().published, 3_000);
        assert!(broker.most_in_flight() <= WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_session_left_is_sent_again_in_order_and_stored_once() {
        let broker = FakeBroker::new([
            Fault::Open,
            Fault::Send { after: 700, stored: 650 },
            Fault::Send { after: 0, stored: 0 },
            Fault::Confirm { after: 100 },
            Fault::Open,
        ]);
        let window = publish_all(&broker, 2_000).await;
        assert_eq!(broker.ids(), ids(2_000));
        assert_eq!(broker.faults_left(), 0);
        let snapshot = window.status.snapshot();
        assert!(snapshot.last_error.is_some());
        assert!(snapshot.published <= 2_000, "duplicates do not count as published");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stored_is_not_sent_again_even_when_its_ids_are_forgotten() {
        let broker = FakeBroker::forgetful([
            Fault::Send { after: 700, stored: 650 },
            Fault::Confirm { after: 100 },
            Fault::Confirm { after: 0 },
        ]);
        let window = publish_all(&broker, 2_000).await;
        assert_eq!(broker.ids(), ids(2_000));
        assert_eq!(window.status.snapshot().published, 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_and_tried_again_without_haste_until_it_passes() {
        let broker = FakeBroker::new([]);
        broker.refuse(100..usize::MAX);
        let (sender, mut intake) = tokio::sync::mpsc::channel(1_000);
        for n in 0..300 {
            sender.send(tick(n)).await.unwrap();
        }
        drop(sender);
        let (shared, mut window) = (broker.shared(), window());
        let status = Arc::clone(&window.status);
        status.set(SourceState::Running);
        let publishing = publish(&shared, &mut window, &mut intake);
        tokio::pin!(publishing);
        let hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(hour, &mut publishing).await.is_err(), "it still waits");
        assert!((500..2_000).contains(&broker.sessions()), "{} in an hour", broker.sessions());
        let told = status.snapshot();
        assert_eq!((told.state, told.published), (SourceState::BackingOff, 100));
        let why = "the broker refused: maximum bytes exceeded";
        assert_eq!(told.last_error.as_deref(), Some(why));
        assert_eq!(status.unpublished(), Some(format!("sim: {why}")));

        broker.refuse(0..0);
        publishing.await;
        assert_eq!(broker.ids(), ids(300));
        assert_eq!((status.snapshot().state, status.unpublished()), (SourceState::Running, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_payload_that_is_refused_is_not_lost_when_those_behind_it_are_stored() {
        let broker = FakeBroker::new([]);
        broker.refuse(100..101);
        let room = async {
            sleep(Duration::from_secs(30)).await;
            broker.refuse(0..0);
        };
        tokio::join!(publish_all(&broker, 300), room);
        let mut stored = broker.ids();
        stored.sort_by_key(|id| id.rsplit(':').next().unwrap().parse::<usize>().unwrap());
        assert_eq!(stored, ids(300));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_broker_is_away_the_source_is_held_back() {
        let broker = FakeBroker::new(std::iter::repeat_n(Fault::Open, 100_000));
        let (sender, mut intake) = tokio::sync::mpsc::channel(8);
        let (shared, mut window) = (broker.shared(), window());
        let publishing = publish(&shared, &mut window, &mut intake);
        let feeding = async {
            let mut sent = 0;
            while sender.send(tick(sent)).await.is_ok() {
                sent += 1;
                assert!(sent <= 8);
            }
        };
        let hour = Duration::from_secs(3_600);
        let both = async { tokio::join!(publishing, feeding) };
        assert!(tokio::time::timeout(hour, both).await.is_err(), "it still waits after an hour");
        let attempts = 100_000 - broker.faults_left();
        assert!((700..10_000).contains(&attempts), "{attempts} attempts in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_in_flight_are_bounded() {
        let mut window = window();
        for n in 0..64 {
            assert!(!window.is_full());
            window.push(RawTick { body: vec![0; 512 * 1024].into(), ..tick(n) });
        }
        assert!(window.is_full());
        window.confirmed(Receipt { duplicate: false, sequence: 0 });
        assert!(!window.is_full());
    }

    #[test]
    fn what_was_left_comes_first_unless_another_instance_went_on() {
        let left = || {
            let mut window = window();
            for n in 0..3 {
                window.push(tick(n));
            }
            window.confirmed(Receipt { duplicate: false, sequence: 0 });
            window
        };
        for ours in [None, Some(tick(0).id), Some(tick(1).id), Some(tick(2).id)] {
            let mut window = left();
            assert_eq!(window.resume(ours), Some(tick(2).id));
            assert_eq!(window.payloads.len(), 2);
        }
        let mut window = left();
        assert_eq!(window.resume(Some(tick(9).id)), Some(tick(9).id));
        assert!(window.payloads.is_empty());
        assert_eq!(window.bytes, 0);
        assert_eq!(window.resume(None), None);
    }
}
