//! A publishing session: one connection, receipts collected on one inbox.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::{Pin, pin},
    time::Duration,
};

use async_nats::{Client, HeaderMap, HeaderName, Subscriber, client::PublishErrorKind, header};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::unreachable;
use crate::{BrokerError, NewMessage, Publisher, Receipt, topology::Stream};

/// How long the server may take to store a message, before the session counts as broken.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The server's error codes for a stream whose last message is not the expected one, by its id and
/// by its sequence, in the stream or of a subject.
const WRONG_LAST: [u64; 3] = [10_070, 10_071, 10_164];

/// The subject that the expected last sequence is of.
const FENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// An open session.
///
/// Its connection never reconnects (see `Nats::session`), and the server stores what comes over
/// one connection in order: what is stored is a prefix of what was sent. An exclusive session
/// proves more: each message names the id of the one before it (`Nats-Expected-Last-Msg-Id`), and
/// where that has none or is not ours its sequence (`Nats-Expected-Last-Sequence`), so that the first
/// write of another session ends this one. The sequence alone would not do: of many messages in
/// flight a foreign one takes the place of just one, and those behind it would fit again.
///
/// Where several sessions write a stream, each its partitions, nobody can know the next sequence.
/// There each partition has a fence, a subject whose newest message is of the session that opened
/// it last; a message names the sequence of its partition's fence
/// (`Nats-Expected-Last-Subject-Sequence` with a subject of its own), and a newer fence ends the
/// session.
pub(super) struct Session {
    client: Client,
    receipts: Subscriber,
    inbox: String,
    dead: CancellationToken,
    /// These two wait for as long as the session lives: to begin anew with each message cost more.
    died: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Never later than the receipt of the oldest in flight is due.
    clock: Pin<Box<Sleep>>,
    /// The streams it may write into.
    streams: Vec<(Stream, Guard)>,
    /// In the order of sending; the front has the ticket `first_ticket`.
    in_flight: VecDeque<Flight>,
    first_ticket: u64,
    /// Since when the receipt of the oldest in flight is waited for; `None` while it is not.
    waiting_since: Option<Instant>,
}

/// What keeps the writers of a stream apart.
pub(super) enum Guard {
    /// Nothing: others may write too.
    Open,
    /// It ends with this once all in flight is stored.
    Tip(Tip),
    /// The fences of our partitions.
    Fences(BTreeMap<u16, Fence>),
}

/// The last message of a stream.
#[derive(Default)]
pub(super) struct Tip {
    sequence: u64,
    /// `None` where it has none, or is not ours.
    id: Option<String>,
}

/// The newest message of a fence.
pub(super) struct Fence {
    pub(super) subject: String,
    /// Its sequence, as a header has it.
    pub(super) sequence: String,
}

impl Guard {
    /// The stream ends with this sequence, and nobody else writes.
    pub(super) fn tip(sequence: u64) -> Self {
        Self::Tip(Tip { sequence, id: None })
    }

    /// Adds what a message that is sent next expects.
    fn expect(
        &mut self,
        partition: Option<u16>,
        message: &NewMessage,
        headers: &mut HeaderMap,
    ) -> Result<(), BrokerError> {
        match self {
            Self::Open => {}
            Self::Tip(tip) => {
                let mut names = message.headers.iter();
                let id = names.find(|(name, _)| *name == schemas::headers::MESSAGE_ID);
                let id = id.map(|(_, id)| id.clone());
                match std::mem::replace(&mut tip.id, id) {
                    Some(last_id) => {
                        headers.insert(header::NATS_EXPECTED_LAST_MESSAGE_ID, last_id);
                    }
                    None => {
                        let sequence = tip.sequence.to_string();
                        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, sequence);
                    }
                }
                tip.sequence += 1;
            }
            Self::Fences(fences) => {
                let fence = partition.and_then(|partition| fences.get(&partition));
                let Some(fence) = fence else {
                    return Err(BrokerError::Refused(format!(
                        "{} is of none of the session's partitions",
                        message.subject
                    )));
                };
                let sequence = fence.sequence.as_str();
                headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence);
                headers.insert(HeaderName::from_static(FENCE_SUBJECT), fence.subject.as_str());
            }
        }
        Ok(())
    }
}

struct Flight {
    stream: Stream,
    receipt: Option<Receipt>,
}

#[derive(Deserialize)]
struct PublishAnswer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<PublishFault>,
}

#[derive(Deserialize)]
struct PublishFault {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Session {
    pub(super) async fn open(
        client: Client,
        dead: CancellationToken,
        streams: Vec<(Stream, Guard)>,
    ) -> Result<Self, BrokerError> {
        let inbox = client.new_inbox();
        let receipts = client.subscribe(format!("{inbox}.*")).await.map_err(unreachable)?;
        Ok(Self {
            client,
            receipts,
            inbox,
            died: Box::pin(dead.clone().cancelled_owned()),
            clock: Box::pin(sleep(RECEIPT_TIMEOUT)),
            dead,
            streams,
            in_flight: VecDeque::new(),
            first_ticket: 0,
            waiting_since: None,
        })
    }

    /// The stream of a message and what keeps its writers apart.
    fn stream(&mut self, subject: &str) -> Result<&mut (Stream, Guard), BrokerError> {
        let stream = Stream::of_subject(subject);
        self.streams.iter_mut().find(|(own, _)| Some(*own) == stream).ok_or_else(|| {
            BrokerError::Refused(format!("{subject} is of none of the session's streams"))
        })
    }

    async fn dispatch(
        &mut self,
        partition: Option<u16>,
        message: NewMessage,
    ) -> Result<(), BrokerError> {
        if self.dead.is_cancelled() {
            return Err(unreachable("the connection broke"));
        }
        let (stream, guard) = self.stream(&message.subject)?;
        let stream = *stream;
        let mut headers = HeaderMap::new();
        guard.expect(partition, &message, &mut headers)?;
        for (name, value) in message.headers {
            headers.insert(HeaderName::from_static(name), value);
        }
        let ticket = self.first_ticket + self.in_flight.len() as u64;
        let mut sending = pin!(self.client.publish_with_reply_and_headers(
            message.subject,
            format!("{}.{ticket}", self.inbox),
            headers,
            message.body,
        ));
        let sent = match sending.as_mut().now_or_never() {
            Some(sent) => Ok(sent),
            // A server that stalls lets the queue of the connection fill up.
            None => timeout(RECEIPT_TIMEOUT, sending).await,
        };
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(fault)) if fault.kind() == PublishErrorKind::Send => {
                return Err(unreachable(fault));
            }
            // Sent again, it would be refused again.
            Ok(Err(fault)) => return Err(BrokerError::Refused(fault.to_string())),
            Err(_) => return Err(unreachable("the server takes no message")),
        }
        self.in_flight.push_back(Flight { stream, receipt: None });
        Ok(())
    }

    /// Waits for the next answer of the server. Cancel safe.
    async fn answer_in_time(&mut self) -> Result<Option<async_nats::Message>, BrokerError> {
        let deadline = *self.waiting_since.get_or_insert_with(Instant::now) + RECEIPT_TIMEOUT;
        loop {
            tokio::select! {
                biased;
                answer = self.receipts.next() => return Ok(answer),
                () = &mut self.died => return Err(unreachable("the connection broke")),
                () = &mut self.clock => {
                    if Instant::now() >= deadline {
                        return Err(unreachable("no receipt came in time"));
                    }
                    self.clock.as_mut().reset(deadline);
                }
            }
        }
    }

    /// Takes in one answer of the server.
    fn settle(&mut self, answer: &async_nats::Message) -> Result<(), BrokerError> {
        let ticket = answer.subject[self.inbox.len() + 1..].parse::<u64>().map_err(unreachable)?;
        if answer.status.is_some() {
            return Err(unreachable("no stream takes the message"));
        }
        let parsed: PublishAnswer = serde_json::from_slice(&answer.payload).map_err(unreachable)?;
        let flight = ticket
            .checked_sub(self.first_ticket)
            .and_then(|place| self.in_flight.get_mut(usize::try_from(place).ok()?));
        let Some(flight) = flight else { return Ok(()) };
        match parsed.error {
            None => {
                let (duplicate, sequence) = (parsed.duplicate, parsed.seq);
                flight.receipt = Some(Receipt { duplicate, sequence });
                Ok(())
            }
            Some(fault) if WRONG_LAST.contains(&fault.err_code) => {
                Err(BrokerError::Fenced(flight.stream))
            }
            Some(fault) => Err(BrokerError::Refused(fault.description)),
        }
    }
}

#[async_trait]
impl Publisher for Session {
    async fn send(&mut self, message: NewMessage) -> Result<(), BrokerError> {
        self.dispatch(None, message).await
    }

    async fn send_in(&mut self, partition: u16, message: NewMessage) -> Result<(), BrokerError> {
        self.dispatch(Some(partition), message).await
    }

    async fn confirmed(&mut self) -> Result<Receipt, BrokerError> {
        if self.in_flight.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if let Some(receipt) = self.in_flight.front().and_then(|flight| flight.receipt) {
                self.in_flight.pop_front();
                self.first_ticket += 1;
                self.waiting_since = None;
                return Ok(receipt);
            }
            // Most have come already, many at a time: those cost no timer.
            let answer = match self.receipts.next().now_or_never() {
                Some(answer) => answer,
                None => self.answer_in_time().await?,
            };
            self.settle(&answer.ok_or_else(|| unreachable("the connection broke"))?)?;
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}
