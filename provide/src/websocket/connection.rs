//! One WebSocket connection: a single task that hears requests and does what its client asks for.
//!
//! What comes live is written by the hub's flushers, straight to the socket; the task sleeps
//! through it. It wakes for what the client says, for a socket that took no more, and for what only
//! this client gets: answers, replays, conflated prices, heartbeats.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use schemas::{ClientError, ClientMessage, CloseReason, Closing, ErrorCode, ServerMessage};
use service::Backoff;
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout_at},
};
use tracing::debug;

use super::{
    Server, alerts::Alerts, allowance::Allowance, candles::Candles, handshake::Terms, request,
    selection::Limits, subscriptions::Subscriptions, voice::Voice,
};
use crate::{
    alerts::AlertQueue,
    candles::CandleQueue,
    hub::{self, Format, Outbox, Pipe},
    metrics,
    wire::{self, Close, Decoder, Event, encode},
};

/// How many live updates are taken out of the outbox at a time.
const BATCH: usize = 128;

/// While more bytes than these wait to be written, neither requests nor replays go on: a client that
/// does not read is not served more.
const ROOM: usize = 32 * 1024;

/// How much is read from the socket at a time, in bytes.
const READ: usize = 8 * 1024;

/// How long a client may take to receive the farewell of a planned close.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long the socket of a refused client stays open. What it still sends is not read any more,
/// and closing over unread bytes resets the connection, which can cost the client our reason.
const LINGER: Duration = Duration::from_secs(1);

/// The close code for a kind of message that is not served (RFC 6455, 7.4.1).
const UNSUPPORTED: u16 = 1003;

/// The close code for what a client may not do.
const POLICY: u16 = 1008;

/// How many pings in a row may go without an answer.
const UNANSWERED_PINGS: u32 = 2;

pub(super) struct Connection {
    server: Arc<Server>,
    socket: Arc<TcpStream>,
    pipe: Arc<Pipe>,
    voice: Voice,
    decoder: Decoder,
    allowance: Allowance,
    subscriptions: Subscriptions,
    heartbeat: Interval,
    unanswered: u32,
}

/// How a connection ends.
enum End {
    /// The client has gone, or is not heard of any more.
    Gone,
    /// It closes, perhaps with a code.
    Closed(Option<Close>),
    /// We close it, and say so.
    Planned(CloseReason),
    /// The stream broke: nothing after this sequence was sent.
    Broken(u64),
    /// It does what no client may.
    Refused(Refusal),
}

/// What a client did that no client may.
struct Refusal {
    /// The WebSocket close code.
    close: u16,
    code: ErrorCode,
    fault: String,
}

impl From<wire::Fault> for Refusal {
    fn from(fault: wire::Fault) -> Self {
        Self { close: fault.code(), code: ErrorCode::InvalidMessage, fault: fault.to_string() }
    }
}

impl Connection {
    pub(super) fn new(server: Arc<Server>, socket: TcpStream, terms: Terms) -> Self {
        let socket = Arc::new(socket);
        let (place, capacity) = (server.hub.place(), server.config.queue_frames);
        let pipe = Pipe::new(
            Arc::clone(&socket),
            place,
            terms.format,
            terms.compression.is_some(),
            capacity,
        );
        let period = server.config.heartbeat();
        let mut heartbeat = interval_at(Instant::now() + period, period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let voice = Voice::new(Arc::clone(&pipe), terms.compression);
        let max_symbols = server.config.max_symbols;
        let alerts =
            Alerts::new(Arc::clone(&server.alerts), terms.permit.clone(), capacity, max_symbols);
        let subscriptions = Subscriptions::new(
            Arc::clone(&server.hub),
            Arc::clone(&server.readers),
            voice.clone(),
            Limits { permit: terms.permit, max_symbols },
            Candles::new(Arc::clone(&server.candles), capacity),
            alerts,
            capacity,
        );
        let decoder = Decoder::new(server.config.max_message_bytes, terms.compression);
        Self {
            allowance: Allowance::new(server.config.max_messages_per_second),
            server,
            socket,
            pipe,
            voice,
            decoder,
            subscriptions,
            heartbeat,
            unanswered: 0,
        }
    }

    /// Serves until the client goes, is too slow, or we stop. `read` is what came with the
    /// handshake already.
    pub(super) async fn run(mut self, first: Option<ClientMessage>, read: Bytes) {
        // Before the first subscription, so that none outlives the stream it is of.
        let broken = self.server.hub.broken();
        if let Some(request) = first {
            self.subscriptions.handle(request);
        }
        let end = match self.hear(&read) {
            Some(end) => end,
            None => self.serve(broken).await,
        };
        let deadline = Instant::now() + FAREWELL;
        match end {
            End::Gone => debug!("a client has gone"),
            End::Closed(close) => {
                let answer = close.map_or_else(encode::bare_close, |it| encode::close(it.code, ""));
                self.pipe.send_aside(answer);
                drop(self.subscriptions);
                flushed(&self.socket, &self.pipe, deadline).await;
            }
            End::Refused(refusal) => {
                debug!(code = refusal.close, refusal.fault, "closing a connection");
                Box::pin(self.refuse(refusal, deadline)).await;
            }
            End::Planned(reason) => {
                debug!(?reason, "closing a connection");
                if reason == CloseReason::TooSlow {
                    metrics::slow_client();
                }
                Box::pin(self.farewell(reason, u64::MAX, deadline)).await;
            }
            End::Broken(at) => {
                Box::pin(self.farewell(CloseReason::StreamBreak, at, deadline)).await;
            }
        }
    }

    async fn serve(&mut self, mut broken: watch::Receiver<Option<u64>>) -> End {
        let shutdown = self.server.shutdown.clone();
        loop {
            match self.pipe.fault() {
                Some(hub::Fault::Broken) => return End::Gone,
                Some(hub::Fault::TooSlow(_)) => return End::Planned(CloseReason::TooSlow),
                None => {}
            }
            if self.subscriptions.has_overflowed() {
                return End::Planned(CloseReason::TooSlow);
            }
            let queued = self.pipe.queued();
            let mut has_taken = self.pipe.is_clear() && self.subscriptions.forward(BATCH);
            has_taken |= queued <= ROOM && self.subscriptions.forward_few(BATCH);
            self.subscriptions.settle();
            let has_room = queued <= ROOM;
            let may_replay = has_room && self.subscriptions.is_replaying();
            let pause = self.subscriptions.pause();
            let outbox = self.subscriptions.outbox();
            let candles = self.subscriptions.candles();
            let alerts = self.subscriptions.alerts();
            let interest = match (has_room, self.pipe.is_blocked()) {
                (true, false) => Interest::READABLE,
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (false, _) => Interest::WRITABLE,
            };
            tokio::select! {
                () = shutdown.cancelled() => return End::Planned(CloseReason::Shutdown),
                _ = broken.changed() => {
                    return End::Broken(broken.borrow().unwrap_or_default());
                }
                () = self.pipe.woken() => {}
                () = filled(outbox.as_deref()), if outbox.is_some() => {}
                () = came(candles.as_deref()), if has_room && candles.is_some() => {}
                () = fired(alerts.as_deref()), if has_room && alerts.is_some() => {}
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
                // There may be more in the outbox.
                () = tokio::task::yield_now(), if has_taken => {}
                ready = self.socket.ready(interest) => {
                    let Ok(ready) = ready else { return End::Gone };
                    if ready.is_writable() {
                        self.pipe.resume();
                    }
                    if has_room && ready.is_readable()
                        && let Some(end) = self.read()
                    {
                        return end;
                    }
                }
                progress = self.subscriptions.replay(), if may_replay => {
                    self.subscriptions.replayed(progress);
                }
                _ = self.heartbeat.tick() => {
                    if self.unanswered >= UNANSWERED_PINGS {
                        return End::Gone;
                    }
                    self.unanswered += 1;
                    if !has_room {
                        self.subscriptions.rest();
                    }
                    self.beat();
                }
            }
        }
    }

    /// A ping, and a heartbeat where there was nothing else to say.
    fn beat(&self) {
        if !self.pipe.take_spoken() {
            self.voice.aside(&ServerMessage::Heartbeat { seq: self.server.hub.last_sequence() });
        }
        self.pipe.send_aside(encode::ping(b""));
    }

    /// Reads what there is. The buffer is not the connection's: while it is idle it needs none.
    fn read(&mut self) -> Option<End> {
        let mut buffer = [0; READ];
        match self.socket.try_read(&mut buffer) {
            Ok(0) => Some(End::Gone),
            Ok(length) => self.hear(buffer.get(..length).unwrap_or_default()),
            Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_) => Some(End::Gone),
        }
    }

    /// Does what the client says in these bytes.
    fn hear(&mut self, mut bytes: &[u8]) -> Option<End> {
        loop {
            let event = match self.decoder.next(&mut bytes) {
                Ok(Some(event)) => event,
                Ok(None) => return None,
                Err(fault) => return Some(End::Refused(fault.into())),
            };
            self.unanswered = 0;
            if !self.allowance.take() {
                return Some(End::Refused(self.flooded()));
            }
            match (event, self.pipe.format) {
                (Event::Text(text), Format::Json) => self.asked(request::parse(&text)),
                (Event::Binary(bytes), Format::Msgpack) => {
                    self.asked(request::parse_msgpack(&bytes));
                }
                (Event::Text(_), Format::Msgpack) => {
                    return Some(End::Refused(unsupported("text, where MessagePack is due")));
                }
                (Event::Binary(_), Format::Json) => {
                    return Some(End::Refused(unsupported("binary, where JSON text is due")));
                }
                (Event::Ping(payload), _) => self.pipe.send_aside(encode::pong(&payload)),
                (Event::Pong, _) => {}
                (Event::Close(close), _) => return Some(End::Closed(close)),
            }
        }
    }

    fn asked(&mut self, request: Result<ClientMessage, ClientError>) {
        match request {
            Ok(request) => self.subscriptions.handle(request),
            Err(error) => self.voice.error(error),
        }
    }

    fn flooded(&self) -> Refusal {
        let most = self.server.config.max_messages_per_second;
        Refusal {
            close: POLICY,
            code: ErrorCode::TooManyMessages,
            fault: format!("more than {most} a second"),
        }
    }

    /// Says what was wrong, and closes.
    async fn refuse(self, refusal: Refusal, deadline: Instant) {
        let Refusal { close, code, fault } = refusal;
        drop(self.subscriptions);
        let what = if code == ErrorCode::TooManyMessages {
            "Too many messages"
        } else {
            "Invalid message"
        };
        let message = format!("{what}: {fault}");
        self.voice.error(ClientError { message, code, id: None, symbols: Vec::new() });
        self.pipe.send(encode::close(close, &fault));
        if flushed(&self.socket, &self.pipe, deadline).await {
            tokio::time::sleep(LINGER).await;
        }
    }

    /// Sends what is on its way, then why we close and how to come back, then the close.
    async fn farewell(mut self, reason: CloseReason, at_most: u64, deadline: Instant) {
        let resume_from = self.subscriptions.resume_from().map(|it| it.min(at_most));
        // Nothing new may come between, and nobody should wait for us.
        drop(self.subscriptions);
        // Not all at once.
        let retry = Backoff::new(Duration::from_secs(2), Duration::from_secs(2)).next_delay();
        let retry_after_ms = 100 + u64::try_from(retry.as_millis()).unwrap_or_default();
        self.voice.message(&ServerMessage::Closing(Closing {
            reason,
            retry_after_ms,
            resume_from,
        }));
        self.pipe.send(encode::close(reason.code(), ""));
        if flushed(&self.socket, &self.pipe, deadline).await {
            // Until the client has closed too (RFC 6455, 7.1.1).
            while let Ok(Ok(())) = timeout_at(deadline, self.socket.readable()).await {
                match self.socket.try_read(&mut [0; READ]) {
                    Ok(0) => return,
                    Err(fault) if fault.kind() != std::io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        }
    }
}

fn unsupported(fault: &str) -> Refusal {
    Refusal { close: UNSUPPORTED, code: ErrorCode::InvalidMessage, fault: fault.to_owned() }
}

/// Resolves when something came into the empty outbox. Cancel safe.
async fn filled(outbox: Option<&Outbox>) {
    match outbox {
        Some(outbox) => outbox.woken().await,
        None => std::future::pending().await,
    }
}

/// Resolves when a candle came. Cancel safe.
async fn came(candles: Option<&CandleQueue>) {
    match candles {
        Some(candles) => candles.woken().await,
        None => std::future::pending().await,
    }
}

/// Resolves when an alert came. Cancel safe.
async fn fired(alerts: Option<&AlertQueue>) {
    match alerts {
        Some(alerts) => alerts.woken().await,
        None => std::future::pending().await,
    }
}

/// Has everything been written before the deadline?
async fn flushed(socket: &TcpStream, pipe: &Pipe, deadline: Instant) -> bool {
    while !pipe.is_clear() && pipe.fault() != Some(hub::Fault::Broken) {
        match timeout_at(deadline, socket.writable()).await {
            Ok(Ok(())) => pipe.resume(),
            _ => return false,
        }
        tokio::task::yield_now().await;
    }
    pipe.is_clear()
}
