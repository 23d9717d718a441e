//! One connection of a feed, from its beginning to its end.

use std::{ops::ControlFlow, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use schemas::RawTick;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::info;

use super::{
    Feed, Heard, Notice, Trade,
    connection::{self, Socket},
    payload::{self, Names},
    pulse::{Pulse, Silence},
    requests::{Refusal, Request, Requests},
};
use crate::{
    outlet::Outlet,
    source::{ErrorKind, FetchError, Followed},
};

/// So many messages in a row that are none of the provider's end a session.
const MAX_NONSENSE: u32 = 20;

/// A connection that the provider wants to end sooner is a failure, to be waited out.
const LASTING: Duration = Duration::from_secs(60);

/// Publishes what comes over a connection until it ends. That is no failure where there is nothing to
/// follow, or where the provider was about to end the connection.
pub(super) async fn run(
    feed: &Feed,
    socket: Socket,
    symbols: &mut Followed,
    outlet: &mut Outlet,
) -> Result<(), FetchError> {
    let (now, terms) = (Instant::now(), feed.provider.terms());
    let mut session = Session {
        feed,
        socket,
        outlet,
        requests: Requests::new(terms, feed.patience.answer, now),
        pulse: Pulse::new(feed.patience, terms.hours, now),
        names: Names::default(),
        began: now,
        ready: true,
        leaving: false,
        nonsense: 0,
    };
    if let Some(login) = feed.provider.login() {
        session.ready = false;
        session.send(login).await?;
    }
    session.follow(symbols);
    session.run(symbols).await
}

struct Session<'a> {
    feed: &'a Feed,
    socket: Socket,
    outlet: &'a mut Outlet,
    requests: Requests,
    pulse: Pulse,
    names: Names,
    began: Instant,
    /// We are logged in.
    ready: bool,
    /// The provider has said that it will end the connection.
    leaving: bool,
    /// How many messages in a row made no sense.
    nonsense: u32,
}

impl Session<'_> {
    async fn run(&mut self, symbols: &mut Followed) -> Result<(), FetchError> {
        loop {
            if self.attend().await?.is_break() {
                // Whoever is gone needs no goodbye.
                let _ = self.send(Message::Close(None)).await;
                return Ok(());
            }
            let wake = self.wake();
            tokio::select! {
                message = self.socket.next() => self.hear(message).await?,
                () = symbols.changed() => self.follow(symbols),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Others are to be followed.
    fn follow(&mut self, symbols: &mut Followed) {
        let refusals = self.requests.want(symbols.now());
        self.refused(refusals);
    }

    /// Does what is due, which may be to end the connection.
    async fn attend(&mut self) -> Result<ControlFlow<()>, FetchError> {
        let now = Instant::now();
        if self.requests.is_idle() {
            return Ok(ControlFlow::Break(()));
        }
        if self.leaving || self.aged().is_some_and(|end| now >= end) {
            let lasted = now.saturating_duration_since(self.began);
            if self.leaving && lasted < LASTING {
                let fault = format!("the provider ends the connection after {lasted:?}");
                return Err(FetchError::new(ErrorKind::Connection, fault));
            }
            info!(source = %self.feed.name, ?lasted, "the connection is replaced, as planned");
            return Ok(ControlFlow::Break(()));
        }
        if !self.ready && now >= self.began + self.feed.patience.step {
            return Err(FetchError::new(ErrorKind::Timeout, "the login was not answered"));
        }
        if self.requests.is_overdue(now) {
            return Err(FetchError::new(ErrorKind::Timeout, "a subscription was not answered"));
        }
        if self.requests.is_hopeless() {
            let fault = "the provider refuses every symbol that is followed";
            return Err(FetchError::new(ErrorKind::Provider, fault));
        }
        if self.pulse.check(now, Timestamp::now())? == Silence::Ping {
            self.send(Message::Ping(Bytes::new())).await?;
        }
        if self.ready
            && let Some(Request { action, symbols, number }) = self.requests.due(now)
        {
            let symbols: Vec<_> = symbols.iter().collect();
            self.send(self.feed.provider.request(action, &symbols, number)).await?;
            self.works();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// When something may be due.
    fn wake(&self) -> Instant {
        let login = (!self.ready).then(|| self.began + self.feed.patience.step);
        let request = self.requests.wake().filter(|_| self.ready);
        [login, request, self.aged()].into_iter().flatten().fold(self.pulse.due(), Instant::min)
    }

    /// When the connection is as old as it may be.
    fn aged(&self) -> Option<Instant> {
        Some(self.began + self.feed.provider.terms().lifetime?)
    }

    async fn send(&mut self, message: Message) -> Result<(), FetchError> {
        connection::send(&mut self.socket, message, self.feed.patience.step).await
    }

    async fn hear(
        &mut self,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<(), FetchError> {
        self.pulse.heard(Instant::now());
        match message.transpose().map_err(connection::fault)? {
            Some(Message::Text(text)) => self.take(text.into()).await,
            Some(Message::Binary(body)) => self.take(body).await,
            Some(Message::Close(frame)) => Err(connection::closed(frame)),
            None => Err(connection::closed(None)),
            Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
        }
    }

    async fn take(&mut self, body: Bytes) -> Result<(), FetchError> {
        let received_at = Timestamp::now();
        match self.feed.provider.read(&body) {
            Ok(heard) => {
                self.nonsense = 0;
                match heard {
                    Heard::Trades(trades) => self.publish(trades, body, received_at).await,
                    Heard::Notice(notice) => return self.note(notice),
                }
            }
            Err(error) => {
                self.nonsense += 1;
                if self.nonsense == MAX_NONSENSE {
                    return Err(error);
                }
                self.outlet.failed(&error);
            }
        }
        Ok(())
    }

    async fn publish(&mut self, trades: Vec<Trade>, body: Bytes, received_at: Timestamp) {
        let (known, gaps) = {
            let sequences = self.feed.remembered();
            (sequences.are_known(&trades), sequences.gaps(&trades))
        };
        if known {
            return self.outlet.unchanged();
        }
        for gap in gaps {
            self.outlet.missed(gap.missed, &gap);
        }
        let id = self.names.id(&self.feed.name, &trades, &body);
        let tick = RawTick {
            id: id.clone(),
            source: self.feed.name.clone(),
            symbol: payload::symbol_of(&trades).cloned(),
            received_at,
            content_type: self.feed.content_type.to_owned(),
            format: self.feed.format,
            columns: None,
            body,
        };
        let before = Instant::now();
        self.outlet.send(tick).await;
        self.feed.remembered().record(id, &trades, |symbol| self.requests.wants(symbol));
        // While the broker is away, handing over takes long: that is no silence of the provider.
        let now = Instant::now();
        self.requests.was_deaf(now.saturating_duration_since(before));
        self.pulse.heard(now);
        self.pulse.traded(now);
    }

    fn note(&mut self, notice: Notice) -> Result<(), FetchError> {
        match notice {
            Notice::Alive => {}
            Notice::Ready => self.ready = true,
            Notice::Leaving => self.leaving = true,
            Notice::Failed(error) => return Err(error),
            Notice::Complaint(said) => {
                let fault = format!("the provider answers: {said}");
                self.outlet.failed(&FetchError::new(ErrorKind::Provider, fault));
            }
            Notice::Refused(symbol, why) if !self.requests.is_open() => {
                let about = symbol.map(|symbol| format!("{symbol}: ")).unwrap_or_default();
                let fault = format!("the provider answers: {about}{why}");
                return Err(FetchError::new(ErrorKind::Provider, fault));
            }
            answer => {
                let refusals = self.requests.answered(answer);
                self.refused(refusals);
            }
        }
        self.works();
        Ok(())
    }

    /// A feed that is followed is a source that runs.
    fn works(&mut self) {
        if self.requests.is_active() {
            self.outlet.alive();
        }
    }

    fn refused(&self, refusals: Vec<Refusal>) {
        for Refusal { symbol, why } in refusals {
            let fault = format!("{symbol} is not followed: {why}");
            self.outlet.failed(&FetchError::new(ErrorKind::Provider, fault));
        }
    }
}
