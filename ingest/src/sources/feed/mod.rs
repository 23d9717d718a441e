//! Streaming feeds: what all providers of a WebSocket share.
//!
//! A [`Provider`] says what its messages mean, how it is asked for symbols, and what it allows; the
//! [`Feed`] does the rest. It connects and logs in, each step within a time limit; asks for the
//! symbols that are followed, and again when they change, within what the provider allows; answers
//! pings and sends some; sees gaps; and ends with the reason when something is wrong. Connecting
//! again, after a wait, is the [supervisor](crate::supervise)'s. Where symbols are spread over several
//! connections, one that ends takes no other with it ([`connections`]).

mod connection;
mod connections;
mod payload;
mod pulse;
mod requests;
mod sequences;
mod session;
mod spread;
#[cfg(test)]
pub(super) mod stub;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::Url;
use schemas::{Format, Source as Name, Symbol, calendar::Calendar};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    config::{self, ConfigError},
    source::{FetchError, Session, Source},
};

pub(super) use connection::AFTER_REFUSAL;
use sequences::Sequences;

/// The most connections of one feed: Binance takes 300 in five minutes, Coinbase 8 a second.
const MAX_CONNECTIONS: usize = 64;

/// A source that is a feed.
pub(super) struct Feed {
    pub(super) name: Name,
    /// With the secrets that the provider wants in it.
    pub(super) url: Url,
    /// What the handshake says beside that: names and values.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// Those of the configuration.
    pub(super) symbols: Vec<Symbol>,
    /// The most that one connection follows. There are as many connections as that takes.
    pub(super) symbols_per_connection: usize,
    pub(super) content_type: &'static str,
    pub(super) format: Format,
    pub(super) provider: Box<dyn Provider>,
    pub(super) patience: Patience,
    /// What is known of the trades so far, over all sessions.
    pub(super) sequences: Mutex<Sequences>,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For each of: a connection, a handshake, a login, a message to be taken.
    pub(super) step: Duration,
    /// For the answer to a request.
    pub(super) answer: Duration,
    /// Until a silent provider is pinged, and then again until it counts as gone.
    pub(super) silence: Duration,
    /// For any trade of any symbol, while the market is open and the provider says when that is.
    pub(super) trades: Duration,
    /// Between two connections.
    pub(super) between: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            silence: Duration::from_secs(15),
            trades: Duration::from_secs(10 * 60),
            between: Duration::from_millis(500),
        }
    }
}

/// What a provider allows and does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The most symbols that one connection follows.
    pub(super) max_symbols: usize,
    /// The most symbols of one request.
    pub(super) symbols_per_request: usize,
    /// At least so long lies between two requests.
    pub(super) request_interval: Duration,
    /// How requests are answered.
    pub(super) answers: Answers,
    /// After so long a connection is replaced before the provider ends it.
    pub(super) lifetime: Option<Duration>,
    /// When there are trades at all, where that is not always.
    pub(super) hours: Option<Calendar>,
}

/// How a provider answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// Each request as a whole: done, or refused.
    Whole,
    /// Each symbol of a request.
    PerSymbol,
    /// Not at all.
    Never,
}

/// What distinguishes a provider.
pub(super) trait Provider: Send + Sync + 'static {
    /// What it allows and does.
    fn terms(&self) -> Terms;

    /// What is sent first; it is then waited for [`Notice::Ready`].
    fn login(&self) -> Option<Message> {
        None
    }

    /// The request to follow these symbols, or to leave them. `number` tells it from others of the
    /// same connection.
    fn request(&self, action: Action, symbols: &[&Symbol], number: u64) -> Message;

    /// What a message tells; an error is one that is none of the provider's.
    fn read(&self, body: &[u8]) -> Result<Heard, FetchError>;
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Follow,
    Leave,
}

/// What a message tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The message is published. At least one trade is in it.
    Trades(Vec<Trade>),
    /// The message is for us.
    Notice(Notice),
}

/// As much of a trade as is needed to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trade {
    /// `None` where it cannot be read: that is told by whoever decodes the payload.
    pub(super) symbol: Option<Symbol>,
    /// Its number, where the provider numbers the trades of a symbol without a gap.
    pub(super) number: Option<u64>,
    /// It may be one that was sent before.
    pub(super) is_repeat: bool,
}

/// What a provider tells of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing that matters, but it lives.
    Alive,
    /// We are logged in.
    Ready,
    /// Answer to a request: these are all the symbols that are followed now.
    Following(BTreeSet<Symbol>),
    /// Answer to a request, for this symbol: it is done.
    Done(Symbol),
    /// Answer to the request of this number: it is done.
    AllDone(u64),
    /// Answer to a request: it is refused, for this symbol if one is named.
    Refused(Option<Symbol>, String),
    /// Something is wrong, and the session goes on.
    Complaint(String),
    /// The session cannot go on.
    Failed(FetchError),
    /// The provider will end the connection.
    Leaving,
}

impl Feed {
    /// A feed as it is by default.
    pub(super) fn new(
        name: &'static str,
        url: Url,
        symbols: Vec<Symbol>,
        format: Format,
        provider: impl Provider,
    ) -> Self {
        Self {
            name: super::source_name(name),
            url,
            headers: Vec::new(),
            symbols,
            symbols_per_connection: usize::MAX,
            content_type: "application/json",
            format,
            provider: Box::new(provider),
            patience: Patience::default(),
            sequences: Mutex::default(),
        }
    }

    /// Spreads its symbols over connections of at most so many, or of as many as the provider allows
    /// if that is fewer or `most` is 0. `key` is that of the configuration.
    pub(super) fn spread(self, key: &str, most: usize) -> Result<Self, ConfigError> {
        let allowed = self.provider.terms().max_symbols;
        let most = if most == 0 { allowed } else { allowed.min(most) };
        let (count, needed) = (self.symbols.len(), self.symbols.len().div_ceil(most));
        if needed > MAX_CONNECTIONS {
            let fault = format!(
                "{count} symbols would take {needed} connections, and there are at most \
                 {MAX_CONNECTIONS}"
            );
            return Err(ConfigError::new(key, fault));
        }
        Ok(Self { symbols_per_connection: most, ..self })
    }
}

#[async_trait]
impl Source for Feed {
    fn name(&self) -> &Name {
        &self.name
    }

    fn url(&self) -> String {
        config::shown(&self.url)
    }

    fn symbols(&self) -> Vec<Symbol> {
        self.symbols.clone()
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { resume, symbols, outlet, .. } = session;
        self.remembered().go_on(&self.name, resume.as_deref());
        Err(connections::run(self, symbols, outlet).await)
    }
}

impl Feed {
    fn remembered(&self) -> MutexGuard<'_, Sequences> {
        self.sequences.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
