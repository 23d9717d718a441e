//! What a source is.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemas::Symbol;
use tokio::sync::watch;

use crate::{outlet::Outlet, quota::Account, stored::Stored};

/// Somewhere that prices come from. A newcomer is one module in [`sources`](crate::sources) that
/// implements this.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    /// Its name, which is also the subject token and the header of what it publishes.
    fn name(&self) -> &schemas::Source;

    /// Where it fetches from, without any secret.
    fn url(&self) -> String;

    /// The symbols that it is configured to deliver, as far as that is known before it does.
    fn symbols(&self) -> Vec<Symbol> {
        Vec::new()
    }

    /// Whether it loses nothing by waiting for the broker: it goes on where it was. What others fetch
    /// meanwhile is spooled. Every source that comes to an end can wait.
    fn can_wait(&self) -> bool {
        false
    }

    /// Whether its symbols may be divided among instances, each of which then runs a session for its
    /// own, and asks the broker for each symbol where it is to go on. What cannot be divided has one
    /// owner: a feed, because its provider allows few connections, or because those that stay would be
    /// interrupted for those that move; a web site, because it is one that is to be polite to it.
    fn divides(&self) -> bool {
        false
    }

    /// The host that it asks, where whoever asks that is to have all sources that do, because there are
    /// pauses to be kept between its requests.
    fn host(&self) -> Option<String> {
        None
    }

    /// Returns when another instance may ask for it: when the pause is over that we owe its host.
    async fn leave(&self) {}

    /// The account that it asks its provider with, where that has a quota.
    fn account(&self) -> Option<&Account> {
        None
    }

    /// Whether it has an end, and is not to be played again when the stream has dropped it. It goes on
    /// from any of its ids.
    fn is_played_once(&self) -> bool {
        false
    }

    /// One session: fetches and hands everything to the outlet until the source is at its end or
    /// something fails. It is dropped at shutdown, at any await.
    async fn run(&self, session: Session) -> Result<(), FetchError>;
}

/// What a source is given for one session.
pub(crate) struct Session {
    /// The id of the newest message of this source that the broker has, or of one that is played
    /// only once has had.
    pub(crate) resume: Option<String>,
    /// What the broker has of this source, to be asked for.
    pub(crate) stored: Stored,
    /// The symbols to fetch, where the source asks for symbols.
    pub(crate) symbols: Followed,
    /// Where to put what is fetched.
    pub(crate) outlet: Outlet,
}

/// The symbols that a source is to fetch. They may change while it runs: it then asks for the new
/// ones too, and leaves the others, without a new session where the provider can.
#[derive(Clone)]
pub(crate) struct Followed {
    ours: watch::Receiver<Arc<BTreeSet<Symbol>>>,
    /// Those of all instances together, where the source is divided.
    all: Option<watch::Receiver<Arc<BTreeSet<Symbol>>>>,
}

impl Followed {
    /// The symbols, and whoever changes them.
    pub(crate) fn new(symbols: BTreeSet<Symbol>) -> (watch::Sender<Arc<BTreeSet<Symbol>>>, Self) {
        let (sender, receiver) = watch::channel(Arc::new(symbols));
        (sender, Self { ours: receiver, all: None })
    }

    /// The same as a part of `all`, which other instances have the rest of.
    pub(crate) fn part_of(mut self, all: watch::Receiver<Arc<BTreeSet<Symbol>>>) -> Self {
        self.all = Some(all);
        self
    }

    /// How many symbols are ours, and how many there are with those of the other instances: our
    /// share of what the account may do.
    pub(crate) fn share(&self) -> (usize, usize) {
        let ours = self.ours.borrow().len();
        (ours, self.all.as_ref().map_or(ours, |all| all.borrow().len().max(ours)))
    }

    /// The symbols as they are now.
    pub(crate) fn now(&mut self) -> Arc<BTreeSet<Symbol>> {
        Arc::clone(&self.ours.borrow_and_update())
    }

    /// Returns when there are others than [`now`](Self::now) told last.
    pub(crate) async fn changed(&mut self) {
        if self.ours.changed().await.is_err() {
            // Nobody can change them any more.
            std::future::pending().await
        }
    }
}

/// Fetching failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct FetchError {
    /// What kind of failure, for the metric.
    pub(crate) kind: ErrorKind,
    /// What happened, in words and without secrets.
    pub(crate) message: String,
    /// How long the provider asks us to stay away.
    pub(crate) retry_after: Option<Duration>,
}

impl FetchError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// The kinds of failures: few, because each is the value of a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// No connection, or it broke.
    Connection,
    /// No answer in time, or silence where there should be data.
    Timeout,
    /// TLS could not be agreed upon: a certificate that nobody vouches for.
    Tls,
    /// The provider asks us to slow down.
    RateLimited,
    /// The provider does not accept our key.
    Unauthorized,
    /// The provider knows us, and does not give us this.
    NotAllowed,
    /// The provider does not know, or not understand, what was asked for.
    NotFound,
    /// The provider answers that something is wrong.
    Provider,
    /// Not to be fetched: a robots.txt forbids it, or it leads to a private address.
    Forbidden,
    /// The answer ended before it was complete.
    Truncated,
    /// Larger than may be published.
    TooLarge,
    /// Not what the provider documents.
    Malformed,
    /// The provider had more than it gave us.
    Missed,
    /// A file cannot be read.
    File,
    /// The broker cannot say where to go on, or publishing to it was interrupted.
    Broker,
    /// The broker refuses what was fetched, because a limit is reached.
    Refused,
    /// What cannot be published cannot be spooled, either.
    Spool,
}

impl ErrorKind {
    /// As in the metric.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::NotAllowed => "not_allowed",
            Self::NotFound => "not_found",
            Self::Provider => "provider",
            Self::Forbidden => "forbidden",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Missed => "missed",
            Self::File => "file",
            Self::Broker => "broker",
            Self::Refused => "refused",
            Self::Spool => "spool",
        }
    }
}
