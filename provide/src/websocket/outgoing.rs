//! What is on its way to one client.

use std::{collections::VecDeque, future::poll_fn, sync::Arc};

use axum::{
    Error,
    extract::ws::{Message, WebSocket},
};
use bytes::Bytes;
use futures_util::{SinkExt, stream::SplitSink};
use schemas::{ClientError, ServerMessage};

use crate::{hub::Frame, metrics};

/// One WebSocket message to be.
#[derive(Debug)]
enum Item {
    Price(Arc<Frame>),
    Text(String),
    Ping,
}

/// Messages in the order in which they are written. Its owner bounds how many.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    items: VecDeque<Item>,
    /// Written, but perhaps not out of our buffers yet.
    is_unflushed: bool,
    /// Something other than a heartbeat was said since the last one was due.
    has_spoken: bool,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Is there anything left to be done?
    pub(super) fn is_idle(&self) -> bool {
        self.items.is_empty() && !self.is_unflushed
    }

    pub(super) fn prices(&mut self, frames: impl IntoIterator<Item = Arc<Frame>>) {
        let before = self.items.len();
        self.items.extend(frames.into_iter().map(Item::Price));
        self.has_spoken |= self.items.len() > before;
    }

    pub(super) fn message(&mut self, message: &ServerMessage) {
        // Only a map with keys that are no strings cannot be JSON, and no message has one.
        self.items.extend(serde_json::to_string(message).ok().map(Item::Text));
        self.has_spoken = true;
    }

    pub(super) fn error(&mut self, error: ClientError) {
        metrics::client_error(error.code);
        self.message(&ServerMessage::Error(error));
    }

    /// Adds a ping, and a heartbeat where there was nothing else to say.
    pub(super) fn beat(&mut self, seq: u64) {
        if !std::mem::take(&mut self.has_spoken) {
            self.message(&ServerMessage::Heartbeat { seq });
            self.has_spoken = false;
        }
        self.items.push_back(Item::Ping);
    }

    /// Forgets the prices that are not wanted any more.
    pub(super) fn retain_prices(&mut self, keep: impl Fn(&Frame) -> bool) {
        self.items.retain(|item| match item {
            Item::Price(frame) => keep(frame),
            Item::Text(_) | Item::Ping => true,
        });
    }

    /// Writes all there is, then flushes once. Cancel safe: what is left stays.
    pub(super) async fn write(
        &mut self,
        sink: &mut SplitSink<WebSocket, Message>,
    ) -> Result<(), Error> {
        let mut delivered = Delivered(0);
        while !self.items.is_empty() {
            poll_fn(|context| sink.poll_ready_unpin(context)).await?;
            let Some(item) = self.items.pop_front() else { break };
            let message = match item {
                Item::Price(frame) => {
                    delivered.0 += 1;
                    Message::Text(frame.text.clone())
                }
                Item::Text(text) => Message::Text(text.into()),
                Item::Ping => Message::Ping(Bytes::new()),
            };
            self.is_unflushed = true;
            sink.start_send_unpin(message)?;
        }
        sink.flush().await?;
        self.is_unflushed = false;
        Ok(())
    }
}

/// Counts deliveries once per batch, also when the writing of it is interrupted.
struct Delivered(u64);

impl Drop for Delivered {
    fn drop(&mut self) {
        if self.0 > 0 {
            metrics::deliveries(self.0);
        }
    }
}
