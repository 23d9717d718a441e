//! Reads `TICKS` into the hub: the newest tick of each symbol, then every tick, live.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use nats::{Broker, BrokerError, Message, Reader, Start, topology::Stream};
use service::{Backoff, Check};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Hub, frame::Encoder};
use crate::metrics;

/// How many ticks are published at once, when so many have arrived.
const BATCH: usize = 256;

/// How long nothing may come before the stream is asked whether there is something.
const QUIET: Duration = Duration::from_secs(5);

/// Feeds the hub until shutdown. A reader that dies is opened anew behind the last tick seen, so
/// clients notice nothing, unless that place is gone: the stream was made anew, or has dropped
/// what was not seen yet. Then the hub begins anew too, and all clients are told so.
pub(crate) async fn follow(
    hub: Arc<Hub>,
    broker: Arc<dyn Broker>,
    check: Check,
    shutdown: CancellationToken,
) {
    let mut feed = Feed {
        hub,
        broker,
        encoder: Encoder::default(),
        newest: None,
        examined: None,
        break_at: None,
    };
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let fault = tokio::select! {
            () = shutdown.cancelled() => return,
            fault = feed.run(&check, &mut backoff) => fault,
        };
        check.fail(fault.to_string());
        let delay = backoff.next_delay();
        warn!(%fault, ?delay, "the live ticks broke off; opening them anew");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

struct Feed {
    hub: Arc<Hub>,
    broker: Arc<dyn Broker>,
    encoder: Encoder,
    /// The newest message seen: a stream that has another in its place is another stream.
    newest: Option<Message>,
    /// The newest sequence of the stream when nothing had come for a while.
    examined: Option<u64>,
    /// The hub has to begin anew, and its clients are to resume after this sequence.
    break_at: Option<u64>,
}

impl Feed {
    /// Runs until the reader dies, and returns why.
    async fn run(&mut self, check: &Check, backoff: &mut Backoff) -> BrokerError {
        match self.open().await {
            Ok(mut reader) => {
                check.pass();
                loop {
                    // A reader that only waits may wait for what never comes.
                    let worked = match timeout(QUIET, reader.next()).await {
                        Ok(first) => {
                            self.publish(first, &mut *reader).await.map(|()| backoff.reset())
                        }
                        Err(_) => self.examine().await,
                    };
                    if let Err(fault) = worked {
                        return fault;
                    }
                }
            }
            Err(fault) => fault,
        }
    }

    async fn open(&mut self) -> Result<Box<dyn Reader>, BrokerError> {
        if self.hub.is_ready() && self.break_at.is_none() {
            self.break_at = self.is_broken().await?;
        }
        if !self.hub.is_ready() || self.break_at.is_some() {
            let (state, newest) = self.broker.newest_per_subject(Stream::Ticks).await?;
            self.encoder = Encoder::default();
            let newest: Vec<_> =
                newest.iter().filter_map(|message| self.encoder.encode(message)).collect();
            info!(symbols = newest.len(), sequence = state.last_sequence, "newest ticks loaded");
            self.newest = None;
            self.hub.load(newest, state.last_sequence, self.break_at.take().unwrap_or_default());
        }
        // With the newest seen itself, to recognise the stream by it.
        let start = Start::Sequence(self.hub.last_sequence().max(1));
        self.broker.reader(Stream::Ticks, &[], start).await
    }

    /// Where clients resume if the stream does not go on where we are.
    async fn is_broken(&self) -> Result<Option<u64>, BrokerError> {
        let (state, seen) = (self.broker.state(Stream::Ticks).await?, self.hub.last_sequence());
        Ok(if state.last_sequence < seen {
            warn!(seen, newest = state.last_sequence, "the stream of ticks was made anew");
            Some(0)
        } else if state.first_sequence > seen + 1 {
            warn!(seen, oldest = state.first_sequence, "ticks were dropped before they were seen");
            Some(seen)
        } else {
            None
        })
    }

    /// Nothing came: is there nothing?
    async fn examine(&mut self) -> Result<(), BrokerError> {
        let seen = self.hub.last_sequence();
        let state = self.broker.state(Stream::Ticks).await?;
        // What was deleted counts too, and never comes: it is looked for once.
        let known = self.examined.replace(state.last_sequence);
        if state.last_sequence == seen || known == Some(state.last_sequence) {
            return Ok(());
        }
        Err(BrokerError::Unreachable(format!(
            "no tick came after {seen}, but the newest is {}",
            state.last_sequence
        )))
    }

    /// Publishes a tick with all those that have arrived behind it.
    async fn publish(
        &mut self,
        first: Result<Message, BrokerError>,
        reader: &mut dyn Reader,
    ) -> Result<(), BrokerError> {
        let mut next = first;
        let mut frames = Vec::new();
        let mut last = self.hub.last_sequence();
        let mut fault = None;
        loop {
            match next {
                Ok(message) if message.sequence > last => {
                    last = message.sequence;
                    frames.extend(self.encoder.encode(&message));
                    self.newest = Some(message);
                }
                Ok(message) => {
                    let is_other = |newest: &Message| {
                        newest.sequence == message.sequence && newest.body != message.body
                    };
                    if self.newest.as_ref().is_some_and(is_other) {
                        self.break_at = Some(0);
                        let text = "the stream of ticks was made anew";
                        fault = Some(BrokerError::Unreachable(text.to_owned()));
                        break;
                    }
                    // Otherwise a reader that goes back does no harm.
                }
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            }
            if frames.len() >= BATCH {
                break;
            }
            match reader.next().now_or_never() {
                Some(arrived) => next = arrived,
                None => break,
            }
        }
        self.hub.publish(&frames).await;
        self.hub.advance(last);
        metrics::ticks(frames.len());
        fault.map_or(Ok(()), Err)
    }
}
