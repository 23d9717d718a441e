//! Reads `TICKS` into the hub: the newest tick of each symbol, then every tick, live.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use nats::{Broker, BrokerError, Message, Reader, Start, topology::Stream};
use service::{Backoff, Check};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Frame, Hub, frame::Encoder};
use crate::metrics;

/// How many ticks are published at once, when so many have arrived.
const BATCH: usize = 256;

/// Feeds the hub until shutdown. A reader that dies is opened anew behind the last tick seen, so
/// clients notice nothing.
pub(crate) async fn follow(
    hub: Arc<Hub>,
    broker: Arc<dyn Broker>,
    check: Check,
    shutdown: CancellationToken,
) {
    let mut feed = Feed { hub, broker, encoder: Encoder::default() };
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
}

impl Feed {
    /// Runs until the reader dies, and returns why.
    async fn run(&mut self, check: &Check, backoff: &mut Backoff) -> BrokerError {
        match self.open().await {
            Ok(mut reader) => {
                check.pass();
                loop {
                    if let Err(fault) = self.publish_next(&mut *reader).await {
                        return fault;
                    }
                    backoff.reset();
                }
            }
            Err(fault) => fault,
        }
    }

    async fn open(&mut self) -> Result<Box<dyn Reader>, BrokerError> {
        if !self.hub.is_ready() {
            let (state, newest) = self.broker.newest_per_subject(Stream::Ticks).await?;
            self.encoder = Encoder::default();
            let newest: Vec<_> = newest.iter().filter_map(|message| self.encode(message)).collect();
            info!(symbols = newest.len(), sequence = state.last_sequence, "newest ticks loaded");
            self.hub.load(newest, state.last_sequence);
        }
        let start = Start::Sequence(self.hub.last_sequence() + 1);
        self.broker.reader(Stream::Ticks, &[], start).await
    }

    /// Waits for a tick, and publishes it with all those that have arrived behind it.
    async fn publish_next(&mut self, reader: &mut dyn Reader) -> Result<(), BrokerError> {
        let mut next = Ok(reader.next().await?);
        let mut frames = Vec::new();
        let mut last = self.hub.last_sequence();
        let mut fault = None;
        loop {
            match next {
                Ok(message) if message.sequence > last => {
                    last = message.sequence;
                    frames.extend(self.encode(&message));
                }
                // A reader that goes back does no harm.
                Ok(_) => {}
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
        self.hub.publish(&frames);
        self.hub.advance(last);
        metrics::ticks(frames.len());
        fault.map_or(Ok(()), Err)
    }

    fn encode(&mut self, message: &Message) -> Option<Arc<Frame>> {
        self.encoder
            .encode(message)
            .inspect_err(|fault| {
                let sequence = message.sequence;
                warn!(sequence, subject = message.subject, %fault, "not a tick; passed over");
            })
            .ok()
    }
}
