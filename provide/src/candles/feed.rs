//! Reads candles into the hub.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use nats::{Broker, BrokerError, LiveMessage, Message, Nats, Start, topology::Stream};
use schemas::subject;
use service::Backoff;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{CandleFrame, CandleHub};

/// Feeds the hub until shutdown: the newest closed candles, then all that close or change. A reader
/// that dies is opened anew behind the last candle seen.
pub(crate) async fn follow(
    hub: Arc<CandleHub>,
    broker: Arc<dyn Broker>,
    nats: Nats,
    shutdown: CancellationToken,
) {
    let mut feed = Feed { hub, broker, last: None };
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let fault = tokio::select! {
            () = shutdown.cancelled() => return,
            fault = feed.run(&nats, &mut backoff) => fault,
        };
        let Err(fault) = fault else { return };
        let delay = backoff.next_delay();
        warn!(%fault, ?delay, "the candles broke off; opening them anew");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

struct Feed {
    hub: Arc<CandleHub>,
    broker: Arc<dyn Broker>,
    /// The last sequence of `CANDLES` that was seen.
    last: Option<u64>,
}

impl Feed {
    async fn run(&mut self, nats: &Nats, backoff: &mut Backoff) -> Result<(), BrokerError> {
        let mut running = nats.listen_live(subject::ALL_RUNNING_CANDLES).await?;
        let state = self.broker.state(Stream::Candles).await?;
        // A stream that is behind what was seen was made anew.
        let last = match self.last.filter(|last| *last <= state.last_sequence) {
            Some(last) => last,
            None => self.load().await?,
        };
        self.last = Some(last);
        let start = Start::Sequence(last + 1);
        let mut closed = self.broker.reader(Stream::Candles, &[], start).await?;
        loop {
            tokio::select! {
                message = closed.next() => {
                    let Message { sequence, body, .. } = message?;
                    self.last = Some(sequence);
                    self.publish(&body);
                    backoff.reset();
                }
                message = running.next() => match message {
                    Some(LiveMessage { body, .. }) => self.publish(&body),
                    None => return Err(BrokerError::Unreachable("NATS has gone".to_owned())),
                },
            }
        }
    }

    /// Loads the newest closed candles; the sequence they are the newest at.
    async fn load(&self) -> Result<u64, BrokerError> {
        let (state, newest) = self.broker.newest_per_subject(Stream::Candles).await?;
        for message in newest {
            self.publish(&message.body);
        }
        Ok(state.last_sequence)
    }

    fn publish(&self, body: &[u8]) {
        match CandleFrame::read(body) {
            Ok(frame) => self.hub.publish(frame),
            Err(fault) => warn!(%fault, "not a candle; passed over"),
        }
    }
}
