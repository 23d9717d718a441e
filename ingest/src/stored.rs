//! What the broker has of a source, to be asked for while the source runs.

use std::{sync::Arc, time::Duration};

use nats::{Broker, topology::Stream};
use schemas::{Symbol, headers, subject};
use tokio::time::timeout;

/// How long the broker may take to say what it has of a symbol.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(1);

/// What the broker has of a source.
pub(crate) struct Stored {
    broker: Arc<dyn Broker>,
    source: schemas::Source,
    /// A broker that fails, or has to search, is not asked again: it is better to publish something
    /// twice than to wait for each symbol.
    asked_in_vain: bool,
}

impl Stored {
    pub(crate) fn new(broker: &Arc<dyn Broker>, source: &schemas::Source) -> Self {
        Self { broker: Arc::clone(broker), source: source.clone(), asked_in_vain: false }
    }

    /// The id of the newest message of a symbol, if that is known.
    pub(crate) async fn newest_of(&mut self, symbol: &Symbol) -> Option<String> {
        if self.asked_in_vain {
            return None;
        }
        let subject = subject::raw(&self.source, Some(symbol));
        match timeout(LOOK_UP_WITHIN, self.broker.last(Stream::Raw, &subject)).await {
            Ok(Ok(newest)) => newest?.header(headers::MESSAGE_ID).map(str::to_owned),
            Ok(Err(_)) | Err(_) => {
                self.asked_in_vain = true;
                None
            }
        }
    }
}
