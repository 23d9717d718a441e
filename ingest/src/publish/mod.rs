//! Publishing what one source fetched, in its order, until the broker has it or the spool.

#[cfg(test)]
mod tests;
mod window;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use nats::{Broker, BrokerError, Exclusivity, Message, NewMessage, Publisher, topology::Stream};
use schemas::{RawTick, headers, subject};
use service::Backoff;
use tokio::{
    sync::mpsc::Receiver,
    time::{sleep, timeout},
};
use tracing::{error, warn};

use crate::{metrics as names, source::ErrorKind};

pub(crate) use window::Window;

/// How many payloads are sent, or taken from the source, before receipts are looked at.
const BATCH: usize = 64;

/// The first and the longest wait before the next session, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How many subjects the broker is asked for at once, and how long it may take for all of them.
const ASKED_AT_ONCE: usize = 8;
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// What tells a payload of ours from the same one that another instance has fetched: its id, and when
/// it was received.
pub(crate) type Mark = (String, Timestamp);

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] io::Error),
}

/// Publishes what `window` still holds, then everything from `intake` until it is closed. Returns when
/// all of it is stored, or when the broker is away and all of it is in the spool. Dropped before that,
/// the window holds what is not confirmed.
pub(crate) async fn publish(
    broker: &Arc<dyn Broker>,
    window: &mut Window,
    intake: &mut Receiver<RawTick>,
) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut before = Before::Nothing;
    // What was sent when publishing was given up is sent again.
    window.unsend();
    while let Err(fault) = session(broker, window, intake, before, &mut backoff).await {
        let refused = matches!(fault, Fault::Broker(BrokerError::Refused(_)));
        before = if refused { Before::Refused } else { Before::Interrupted };
        let (source, unconfirmed) = (&window.source, window.unconfirmed());
        if refused {
            names::fetch_errors(source, ErrorKind::Refused).increment(1);
            error!(%source, unconfirmed, error = %fault, "the broker refuses payloads; trying again");
        } else {
            names::fetch_errors(source, ErrorKind::Broker).increment(1);
            warn!(%source, unconfirmed, error = %fault, "publishing was interrupted; trying again");
        }
        window.status.publishing_failed(&fault);
        window.unsend();
        if meanwhile(window, intake, sleep(backoff.next_delay())).await.is_none() {
            return;
        }
    }
}

/// How the session before this one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// There was none.
    Nothing,
    /// The broker has refused a payload.
    Refused,
    /// It has died otherwise.
    Interrupted,
}

/// The id of the newest message of the source that the broker has.
pub(crate) async fn newest_id(
    broker: &Arc<dyn Broker>,
    source: &schemas::Source,
) -> Result<Option<String>, BrokerError> {
    let newest = broker.last(Stream::Raw, &subject::all_raw_of(source)).await?;
    Ok(newest.and_then(|message| message.header(headers::MESSAGE_ID).map(str::to_owned)))
}

/// The newest messages that the broker has of these subjects. One that has to search for too long
/// is not waited for: what is published twice is known by its id.
async fn newest(
    broker: &Arc<dyn Broker>,
    subjects: BTreeSet<String>,
) -> Result<HashSet<Mark>, BrokerError> {
    let asking = stream::iter(subjects)
        .map(async |subject| broker.last(Stream::Raw, &subject).await)
        .buffer_unordered(ASKED_AT_ONCE)
        .try_filter_map(async |newest| Ok(newest.as_ref().and_then(mark)))
        .try_collect();
    timeout(ASKED_WITHIN, asking).await.unwrap_or_else(|_| Ok(HashSet::new()))
}

fn mark(message: &Message) -> Option<Mark> {
    let received_at = message.header(headers::RECEIVED_AT)?.parse().ok()?;
    Some((message.header(headers::MESSAGE_ID)?.to_owned(), received_at))
}

/// Waits for something while there is no session, and spools what is fetched meanwhile. Nothing where
/// the spool has everything and there is no more to come: what it has is for another time.
async fn meanwhile<T>(
    window: &mut Window,
    intake: &mut Receiver<RawTick>,
    awaited: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(awaited);
    let mut fetched = Vec::new();
    loop {
        spool(window).await;
        let more = may_have_more(intake);
        if !more && window.is_safe() {
            return None;
        }
        tokio::select! {
            biased;
            outcome = &mut awaited => return Some(outcome),
            _ = intake.recv_many(&mut fetched, BATCH), if more && window.takes_meanwhile() => {
                fetched.drain(..).for_each(|payload| window.push(payload));
            }
        }
    }
}

/// Moves what waits into the spool. What that cannot take stays in memory, and the source waits.
async fn spool(window: &mut Window) {
    if let Err(fault) = window.spool_waiting().await {
        let source = &window.source;
        names::fetch_errors(source, ErrorKind::Spool).increment(1);
        error!(%source, %fault, "the spool cannot be written; the source waits");
        window.status.failed(format!("the spool cannot be written: {fault}"));
    }
}

fn may_have_more(intake: &Receiver<RawTick>) -> bool {
    !intake.is_closed() || !intake.is_empty()
}

/// One publishing session: first what an earlier one left unconfirmed, in order, then what comes
/// in. What is stored of the earlier one is a prefix, and is not sent again: the stream would know
/// it by its message id, but only for as long as its duplicate window. For what the server is only
/// about to store, that is long enough. What another instance has stored says nothing about ours: one
/// of its payloads may be among ours, with others before it that only we have.
///
/// After a refusal nothing counts as stored but what is confirmed, because a smaller payload may
/// have found room behind the one that was refused; and nothing follows that one until it is taken.
///
/// What comes in while something of the spool is not sent goes into the spool, behind it.
async fn session(
    broker: &Arc<dyn Broker>,
    window: &mut Window,
    intake: &mut Receiver<RawTick>,
    before: Before,
    backoff: &mut Backoff,
) -> Result<(), Fault> {
    let refused = before == Before::Refused;
    let asked = if refused { BTreeSet::new() } else { window.subjects()? };
    let opening = async {
        let publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await?;
        Ok::<_, BrokerError>((publisher, newest(broker, asked).await?))
    };
    let opened = match before {
        Before::Nothing => opening.await,
        _ => match meanwhile(window, intake, opening).await {
            Some(opened) => opened,
            None => return Ok(()),
        },
    };
    let (mut publisher, stored) = opened?;
    if refused {
        send(&mut *publisher, window, 1).await?;
        if window.has_sent() {
            window.confirmed(publisher.confirmed().await?);
        }
    } else {
        window.stored(stored)?;
    }
    if window.is_empty() {
        window.status.publishing_works();
    }
    let mut fetched = Vec::with_capacity(BATCH);
    loop {
        let more = may_have_more(intake);
        if !more && window.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            receipt = publisher.confirmed(), if window.has_sent() => {
                let receipt = receipt?;
                if !receipt.duplicate {
                    backoff.reset();
                }
                window.confirmed(receipt);
                window.status.publishing_works();
            }
            () = std::future::ready(()), if window.can_send() => {
                send(&mut *publisher, window, BATCH).await?;
            }
            _ = intake.recv_many(&mut fetched, BATCH), if more && window.takes() => {
                fetched.drain(..).for_each(|payload| window.push(payload));
                if window.is_behind_spool() {
                    spool(window).await;
                }
            }
        }
    }
}

/// All of it counts as sent before any of it is: what fails on the way is there for the next session.
async fn send(
    publisher: &mut dyn Publisher,
    window: &mut Window,
    at_most: usize,
) -> Result<(), Fault> {
    for payload in window.send(at_most)? {
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
