//! Messages that nobody stores: whoever listens gets them, and whoever does not has missed them.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::{BrokerError, Nats};

/// A message as it went by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMessage {
    /// Where it was published.
    pub subject: String,
    /// The body.
    pub body: Bytes,
}

impl Nats {
    /// Publishes to whoever listens now. Waits while the connection has too much to send.
    pub async fn publish_live(&self, message: LiveMessage) -> Result<(), BrokerError> {
        self.client.publish(message.subject, message.body).await.map_err(unreachable)
    }

    /// What is published from now on to the subjects that match the pattern. Where the listener is
    /// slower than what comes, the client drops what does not fit.
    pub async fn listen_live(
        &self,
        pattern: &str,
    ) -> Result<impl Stream<Item = LiveMessage> + Send + Unpin + use<>, BrokerError> {
        let messages = self.client.subscribe(pattern.to_owned()).await.map_err(unreachable)?;
        Ok(messages.map(|message| LiveMessage {
            subject: message.subject.into_string(),
            body: message.payload,
        }))
    }
}

fn unreachable(fault: impl ToString) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}
