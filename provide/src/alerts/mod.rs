//! Alerts: the rules over HTTP, and what fires for WebSocket clients.
//!
//! Rules are kept in a bucket; `process` judges them, and what fires comes from the stream `ALERTS`.
//! Alerts are few: there is one queue per client that follows some, and each is encoded once.

mod feed;
mod queue;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use schemas::{ServerMessage, alert::Alert};

use crate::{
    encoded::Encoded,
    hub::{Format, Selector},
};

pub(crate) use feed::follow;
pub(crate) use queue::AlertQueue;
#[cfg(test)]
use rules::Rules;
pub(crate) use rules::router;

/// What is allowed of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertLimits {
    /// How many there may be.
    pub max_rules: usize,
    /// Whether webhooks may go to addresses that are not of the public internet.
    pub allow_private_webhooks: bool,
}

/// An alert, encoded once for all who receive it.
#[derive(Debug)]
pub(crate) struct AlertFrame {
    rule: String,
    owner: Option<String>,
    symbol: Selector,
    encoded: Encoded,
}

impl AlertFrame {
    /// Reads a message of `ALERTS`.
    pub(crate) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let data: Alert = serde_json::from_slice(body)?;
        Ok(Self {
            rule: data.rule.clone(),
            owner: data.owner.clone(),
            symbol: Selector::Symbol(data.symbol.clone()),
            encoded: Encoded::new(ServerMessage::Alert { data }),
        })
    }

    /// The finished frame, header and all. A clone shares the bytes.
    pub(crate) fn bytes(&self, format: Format) -> &Bytes {
        self.encoded.bytes(format)
    }
}

/// Knows who wants the next alert.
#[derive(Debug, Default)]
pub(crate) struct AlertHub(Mutex<Vec<Arc<AlertQueue>>>);

impl AlertHub {
    /// Hands an alert to all who follow its rule.
    pub(crate) fn publish(&self, frame: AlertFrame) {
        let frame = Arc::new(frame);
        self.lock().iter().for_each(|queue| queue.offer(&frame));
    }

    /// From now on alerts come to that queue.
    pub(crate) fn join(&self, queue: &Arc<AlertQueue>) {
        self.lock().push(Arc::clone(queue));
    }

    /// Nothing comes to that queue any more.
    pub(crate) fn leave(&self, queue: &Arc<AlertQueue>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, queue));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<AlertQueue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
