//! The alerts of one rule on their way to its receiver, one after the other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use nats::{Broker, Reader, Start, topology::Stream};
use schemas::alert::{Alert, Deliveries, Delivery, DeliveryState, KEPT_DELIVERIES, StoredWebhook};
use serde_json::json;
use service::Backoff;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    super::AlertsConfig,
    metrics::{self, Fate},
    post::{Answer, Poster},
    session::Fault,
};
use crate::store::Store;

/// How many alerts of a rule wait in memory. What comes on top waits in the stream.
pub(super) const MAX_WAITING: usize = 16;

/// An alert to post.
pub(super) struct Parcel {
    /// The id of the alert.
    pub(super) id: String,
    /// Its sequence in `ALERTS`.
    pub(super) sequence: u64,
    /// What is posted.
    pub(super) body: Bytes,
}

impl Parcel {
    /// As Standard Webhooks has it.
    pub(super) fn new(alert: Alert, sequence: u64) -> Self {
        let body = json!({"type": "alert.fired", "timestamp": alert.ts, "data": alert});
        Self { id: alert.id, sequence, body: Bytes::from(body.to_string()) }
    }
}

/// The queue of a rule, between the session and the task that posts.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Parcel>,
    /// The sequence of the alert that is being posted.
    posting: Option<u64>,
    /// Those that did not fit, behind all that wait: from this sequence through that.
    behind: Option<(u64, u64)>,
}

/// What comes next.
enum Next {
    Parcel(Parcel),
    /// It is to be read from this sequence on.
    Behind(u64),
}

impl Queue {
    /// Adds an alert behind the others.
    pub(super) fn push(&self, parcel: Parcel) {
        let mut inner = self.lock();
        if let Some((_, through)) = &mut inner.behind {
            *through = parcel.sequence;
        } else if inner.waiting.len() < MAX_WAITING {
            inner.waiting.push_back(parcel);
        } else {
            inner.behind = Some((parcel.sequence, parcel.sequence));
        }
        self.wake.notify_one();
    }

    /// The sequence of the oldest alert that is not done with.
    pub(super) fn oldest(&self) -> Option<u64> {
        let inner = self.lock();
        let waiting = || inner.waiting.front().map(|parcel| parcel.sequence);
        inner.posting.or_else(waiting).or_else(|| inner.behind.map(|(from, _)| from))
    }

    /// What comes next. Cancel safe.
    async fn next(&self) -> Next {
        loop {
            {
                let mut inner = self.lock();
                if let Some(parcel) = inner.waiting.pop_front() {
                    inner.posting = Some(parcel.sequence);
                    return Next::Parcel(parcel);
                }
                if let Some((from, _)) = inner.behind {
                    return Next::Behind(from);
                }
            }
            self.wake.notified().await;
        }
    }

    /// An alert was read of those that did not fit. False where it is none of them, and so there are
    /// none any more: it comes, or came, in the queue.
    fn caught_up(&self, sequence: u64) -> bool {
        let mut inner = self.lock();
        let Some((_, through)) = inner.behind.filter(|(_, through)| sequence <= *through) else {
            inner.behind = None;
            return false;
        };
        inner.posting = Some(sequence);
        inner.behind = (sequence < through).then_some((sequence + 1, through));
        true
    }

    fn done(&self) {
        self.lock().posting = None;
    }

    fn is_behind(&self) -> bool {
        self.lock().behind.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a rule.
pub(super) struct Line {
    pub(super) rule: String,
    pub(super) webhook: StoredWebhook,
    /// The subject of its alerts, beside perhaps those of others.
    pub(super) subject: String,
    pub(super) queue: Arc<Queue>,
    pub(super) deliveries: Deliveries,
    /// The revision of its key, once it is saved.
    pub(super) revision: Option<u64>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) store: Arc<dyn Store>,
    pub(super) poster: Arc<Poster>,
    pub(super) config: AlertsConfig,
    /// Its rule is gone, or everything stops.
    pub(super) stop: CancellationToken,
}

impl Line {
    /// Posts until told to stop, or until an alert cannot be read or its fate saved.
    pub(super) async fn run(mut self) -> Result<(), Fault> {
        let (queue, stop) = (Arc::clone(&self.queue), self.stop.clone());
        let mut reader = None;
        loop {
            let Some(next) = stop.run_until_cancelled(queue.next()).await else { return Ok(()) };
            let parcel = match next {
                Next::Parcel(parcel) => Some(parcel),
                Next::Behind(from) => {
                    let catching_up = self.catch_up(&mut reader, from);
                    let Some(parcel) = stop.run_until_cancelled(catching_up).await else {
                        return Ok(());
                    };
                    parcel?
                }
            };
            if let Some(parcel) = parcel
                && parcel.sequence > self.deliveries.done_through
                && !self.deliver(&parcel).await?
            {
                return Ok(());
            }
            queue.done();
        }
    }

    /// Reads one of the alerts that did not fit; nothing where it is another rule's, or there are no
    /// more.
    async fn catch_up(
        &self,
        reader: &mut Option<Box<dyn Reader>>,
        from: u64,
    ) -> Result<Option<Parcel>, Fault> {
        let open = match reader {
            Some(open) => open,
            None => {
                let subjects = [self.subject.clone()];
                let start = Start::Sequence(from);
                reader.insert(self.broker.reader(Stream::Alerts, &subjects, start).await?)
            }
        };
        let message = open.next().await?;
        let parcel = self.queue.caught_up(message.sequence).then(|| {
            let alert = serde_json::from_slice::<Alert>(&message.body).ok();
            alert.filter(|alert| alert.rule == self.rule)
        });
        if !self.queue.is_behind() {
            *reader = None;
        }
        Ok(parcel.flatten().map(|alert| Parcel::new(alert, message.sequence)))
    }

    /// Posts an alert until it is done with. False where it was told to stop before.
    async fn deliver(&mut self, parcel: &Parcel) -> Result<bool, Fault> {
        let first = Duration::from_millis(self.config.webhook_first_retry_ms);
        let longest = Duration::from_millis(self.config.webhook_longest_retry_ms);
        let mut backoff = Backoff::new(first, longest);
        let mut attempt = 0;
        let fate = loop {
            if self.deliveries.gone {
                let fault = Some("the receiver has answered 410 Gone before".to_owned());
                self.note(&parcel.id, DeliveryState::Failed, attempt, Some(410), fault);
                break Fate::Failed;
            }
            attempt += 1;
            let answer = self.poster.post(&self.webhook, &parcel.id, &parcel.body).await;
            let refusal = match answer {
                Answer::Accepted(status) => {
                    metrics::attempted("accepted");
                    self.note(&parcel.id, DeliveryState::Delivered, attempt, Some(status), None);
                    break Fate::Delivered;
                }
                Answer::Gone => {
                    metrics::attempted("gone");
                    self.deliveries.gone = true;
                    let fault = Some("the receiver answered 410 Gone".to_owned());
                    self.note(&parcel.id, DeliveryState::Failed, attempt, Some(410), fault);
                    break Fate::Failed;
                }
                Answer::Forbidden => {
                    metrics::attempted("forbidden");
                    let fault = Some(super::address::PrivateAddress.to_string());
                    self.note(&parcel.id, DeliveryState::Failed, attempt, None, fault);
                    break Fate::Failed;
                }
                Answer::Refused(refusal) => refusal,
            };
            metrics::attempted(refusal.kind);
            let is_last = attempt >= self.config.webhook_attempts;
            let state = if is_last { DeliveryState::Failed } else { DeliveryState::Retrying };
            self.note(&parcel.id, state, attempt, refusal.status, Some(refusal.fault));
            if is_last {
                break Fate::Failed;
            }
            self.save().await?;
            let wait = backoff.next_delay().max(refusal.retry_after.unwrap_or_default());
            if self.stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return Ok(false);
            }
        };
        self.deliveries.done_through = parcel.sequence;
        self.save().await?;
        metrics::done(fate);
        Ok(true)
    }

    /// Remembers how an alert stands, the newest first.
    fn note(
        &mut self,
        alert: &str,
        state: DeliveryState,
        attempts: u32,
        status: Option<u16>,
        fault: Option<String>,
    ) {
        let newest = &mut self.deliveries.newest;
        newest.retain(|delivery| delivery.alert != alert);
        let at = Timestamp::now();
        newest.insert(0, Delivery { alert: alert.to_owned(), state, attempts, status, fault, at });
        newest.truncate(KEPT_DELIVERIES);
    }

    async fn save(&mut self) -> Result<(), Fault> {
        let value =
            serde_json::to_vec(&self.deliveries).map_err(|fault| Fault::Store(fault.into()))?;
        let saved = self.store.save(&self.rule, value.into(), self.revision).await?;
        self.revision = Some(saved.ok_or(Fault::TakenOver)?);
        Ok(())
    }
}
