//! One WebSocket connection: a single task that reads requests and writes what there is.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use schemas::{CloseReason, Closing, ServerMessage};
use service::Backoff;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, error::ProtocolError};
use tracing::debug;

use super::{
    Server,
    outgoing::Outgoing,
    request::{Request, invalid},
    subscriptions::Subscriptions,
};
use crate::metrics;

/// How many live updates are taken out of the outbox at a time. While more than these wait to be
/// written, neither requests nor replays go on: a client that does not read is not served more.
const BATCH: usize = 128;

/// How long a client may take to receive the farewell of a planned close.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long the socket of a refused client stays open. What it still sends is not read any more,
/// and closing over unread bytes resets the connection, which can cost the client our reason.
const LINGER: Duration = Duration::from_secs(1);

/// How many pings in a row may go without an answer.
const UNANSWERED_PINGS: u32 = 2;

pub(super) struct Connection {
    server: Arc<Server>,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    outgoing: Outgoing,
    subscriptions: Subscriptions,
    heartbeat: Interval,
    unanswered: u32,
}

/// How a connection ends.
enum End {
    /// The client has gone, or is not heard of any more.
    Gone,
    /// We close it, and say so.
    Planned(CloseReason),
    /// The stream broke: nothing after this sequence was sent.
    Broken(u64),
    /// It broke the protocol: this is the WebSocket close code.
    Refused(u16),
}

impl Connection {
    pub(super) fn new(server: Arc<Server>, socket: WebSocket) -> Self {
        let (sink, stream) = socket.split();
        let period = server.config.heartbeat();
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let subscriptions = Subscriptions::new(
            Arc::clone(&server.hub),
            Arc::clone(&server.readers),
            &server.config,
        );
        Self {
            server,
            sink,
            stream,
            outgoing: Outgoing::default(),
            subscriptions,
            heartbeat,
            unanswered: 0,
        }
    }

    /// Serves until the client goes, is too slow, or we stop.
    pub(super) async fn run(mut self, first: Option<Request>) {
        // Before the first subscription, so that none outlives the stream it is of.
        let broken = self.server.hub.broken();
        if let Some(request) = first {
            self.subscriptions.handle(request, &mut self.outgoing);
        }
        match self.serve(broken).await {
            End::Gone => debug!("a client has gone"),
            End::Refused(code) => {
                debug!(code, "closing a connection that broke the protocol");
                let _ = timeout(FAREWELL, self.refuse(code)).await;
            }
            End::Planned(reason) => {
                debug!(?reason, "closing a connection");
                if reason == CloseReason::TooSlow {
                    metrics::slow_client();
                }
                // It is too late for more: a client that does not take this in time has gone.
                let _ = timeout(FAREWELL, self.farewell(reason, u64::MAX)).await;
            }
            End::Broken(at) => {
                let _ = timeout(FAREWELL, self.farewell(CloseReason::StreamBreak, at)).await;
            }
        }
    }

    async fn serve(&mut self, mut broken: watch::Receiver<Option<u64>>) -> End {
        let shutdown = self.server.shutdown.clone();
        let outbox = Arc::clone(self.subscriptions.outbox());
        loop {
            if outbox.overflowed().is_some() {
                return End::Planned(CloseReason::TooSlow);
            }
            if self.outgoing.len() == 0 {
                self.outgoing.prices(self.subscriptions.take_live(BATCH));
            }
            // A full batch leaves room: else a client that always has one waiting were never heard.
            let has_room = self.outgoing.len() <= BATCH;
            let may_replay = has_room && self.subscriptions.is_replaying();
            let pause = self.subscriptions.conflation().wait();
            tokio::select! {
                () = shutdown.cancelled() => return End::Planned(CloseReason::Shutdown),
                _ = broken.changed() => {
                    return End::Broken(broken.borrow().unwrap_or_default());
                }
                () = outbox.woken() => {}
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
                written = self.outgoing.write(&mut self.sink), if !self.outgoing.is_idle() => {
                    if written.is_err() {
                        return End::Gone;
                    }
                }
                incoming = self.stream.next(), if has_room => match incoming {
                    Some(Ok(Message::Binary(_))) => return End::Refused(close_code::UNSUPPORTED),
                    Some(Ok(message)) => self.hear(message),
                    Some(Err(fault)) => return refusal(fault).map_or(End::Gone, End::Refused),
                    None => return End::Gone,
                },
                progress = self.subscriptions.replay(),
                    if may_replay => {
                    self.subscriptions.replayed(progress, &mut self.outgoing);
                }
                _ = self.heartbeat.tick() => {
                    if self.unanswered >= UNANSWERED_PINGS {
                        return End::Gone;
                    }
                    self.unanswered += 1;
                    if !has_room {
                        self.subscriptions.rest();
                    }
                    self.outgoing.beat(self.server.hub.last_sequence());
                }
            }
        }
    }

    fn hear(&mut self, message: Message) {
        self.unanswered = 0;
        match message {
            Message::Text(text) => match Request::parse(&text) {
                Ok(request) => self.subscriptions.handle(request, &mut self.outgoing),
                Err(error) => self.outgoing.error(error),
            },
            // The library answers pings and closes; after a close the stream ends.
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    /// Says what was wrong, and closes.
    async fn refuse(mut self, code: u16) {
        let fault = match code {
            close_code::SIZE => {
                let longest = self.server.config.max_message_bytes;
                format!("longer than {longest} bytes")
            }
            close_code::INVALID => "not UTF-8".to_owned(),
            close_code::UNSUPPORTED => "binary, where JSON text is due".to_owned(),
            _ => "not a WebSocket frame (RFC 6455)".to_owned(),
        };
        drop(self.subscriptions);
        self.outgoing.error(invalid(format!("Invalid message: {fault}"), None));
        if self.outgoing.write(&mut self.sink).await.is_err() {
            return;
        }
        let frame = CloseFrame { code, reason: fault.into() };
        if self.sink.send(Message::Close(Some(frame))).await.is_ok() {
            sleep(LINGER).await;
        }
    }

    /// Sends what is on its way, then why we close and how to come back, then the close.
    async fn farewell(mut self, reason: CloseReason, at_most: u64) {
        let resume_from = self.subscriptions.resume_from().map(|it| it.min(at_most));
        // Nothing new may come between, and nobody should wait for us.
        drop(self.subscriptions);
        // Not all at once.
        let retry = Backoff::new(Duration::from_secs(2), Duration::from_secs(2)).next_delay();
        let retry_after_ms = 100 + u64::try_from(retry.as_millis()).unwrap_or_default();
        let closing = Closing { reason, retry_after_ms, resume_from };
        self.outgoing.message(&ServerMessage::Closing(closing));
        if self.outgoing.write(&mut self.sink).await.is_err() {
            return;
        }
        let frame = CloseFrame { code: reason.code(), reason: "".into() };
        if self.sink.send(Message::Close(Some(frame))).await.is_ok() {
            // Until the client has closed too (RFC 6455, 7.1.1).
            while let Some(Ok(_)) = self.stream.next().await {}
        }
    }
}

/// The close code for what a client did wrong (RFC 6455, 7.4.1); `None` where it has just gone.
fn refusal(fault: axum::Error) -> Option<u16> {
    match *fault.into_inner().downcast().ok()? {
        WebSocketError::Capacity(_) => Some(close_code::SIZE),
        WebSocketError::Utf8(_) => Some(close_code::INVALID),
        WebSocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WebSocketError::Protocol(_) => Some(close_code::PROTOCOL),
        _ => None,
    }
}
