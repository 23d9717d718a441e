//! Manners towards a host: one request at a time, a pause after each, and its robots.txt, whichever
//! sites of this process are on it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use reqwest::{Method, Response, Url};
use service::outbound::Outbound;
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep_until},
};

use super::{robots::Robots, visit::send};
use crate::{
    source::{ErrorKind, FetchError},
    sources::fetch,
};

/// What robots.txt is written to.
pub(super) const PRODUCT: &str = "lizards";

/// How long a robots.txt is good for. RFC 9309 (2.4) wants no more than 24 hours.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// How long the last one counts while there is no new one to be had.
const USABLE: Duration = Duration::from_secs(24 * 60 * 60);

/// When a host without a usable robots.txt is asked for it again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How much of a robots.txt is read; RFC 9309 (2.5) wants no less.
const READ_BYTES: usize = 500 * 1024;

/// So many hosts are remembered beside those of the sites, to which these redirected.
const MAX_OTHERS: usize = 32;

/// The hosts of this process by their origin: two sites, or two sessions of one, share the host's
/// turn.
static HOSTS: Mutex<BTreeMap<String, Arc<Host>>> = Mutex::new(BTreeMap::new());

/// One host; its pages are asked for one after the other.
pub(super) struct Host {
    origin: String,
    turn: tokio::sync::Mutex<Turn>,
}

struct Turn {
    /// When the next request may be sent.
    free_at: Instant,
    known: Option<Known>,
}

/// What the host's robots.txt said.
struct Known {
    robots: Robots,
    read_at: Instant,
    /// When it is read again.
    stale_at: Instant,
}

/// The right to send requests to a host, held by one at a time.
pub(super) struct Visit<'a> {
    host: &'a Host,
    turn: MutexGuard<'a, Turn>,
    delay: Duration,
}

impl Host {
    /// The host of an address. Whoever keeps it makes sure that it is remembered.
    pub(super) fn of(url: &Url) -> Arc<Self> {
        let origin = url.origin().ascii_serialization();
        let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(&origin) {
            return Arc::clone(host);
        }
        let is_kept = |host: &Arc<Self>| Arc::strong_count(host) > 1;
        if hosts.values().filter(|host| !is_kept(host)).count() >= MAX_OTHERS {
            hosts.retain(|_, host| is_kept(host));
        }
        let turn = Turn { free_at: Instant::now(), known: None };
        let host = Arc::new(Self { origin: origin.clone(), turn: tokio::sync::Mutex::new(turn) });
        hosts.insert(origin, Arc::clone(&host));
        host
    }

    /// Returns when the host was left alone for long enough, whoever asks it next.
    pub(super) async fn is_left_alone(&self) {
        let turn = self.turn.lock().await;
        sleep_until(turn.free_at).await;
    }

    /// Waits for our turn, and until the host was left alone for long enough. After each request it
    /// is left alone for `delay`, or as long as it asks for.
    pub(super) async fn visit(&self, delay: Duration) -> Visit<'_> {
        let turn = self.turn.lock().await;
        sleep_until(turn.free_at).await;
        Visit { host: self, turn, delay }
    }
}

impl Visit<'_> {
    /// Returns when the page may be asked for now; else an error that says why it may not.
    pub(super) async fn permit(&mut self, client: &Outbound, url: &Url) -> Result<(), FetchError> {
        if self.turn.known.as_ref().is_none_or(|known| known.stale_at <= Instant::now()) {
            self.ask(client).await?;
            sleep_until(self.turn.free_at).await;
        }
        if self.turn.known.as_ref().is_none_or(|known| known.robots.allows(url)) {
            return Ok(());
        }
        let fault = format!("the robots.txt of {} forbids this page", self.host.origin);
        Err(FetchError::new(ErrorKind::Forbidden, fault))
    }

    /// Reads the host's robots.txt. One that is not there allows everything; while the host cannot be
    /// asked, or says that it is at fault, what it said before counts, and at last everything is
    /// forbidden (RFC 9309, 2.3.1).
    async fn ask(&mut self, client: &Outbound) -> Result<(), FetchError> {
        let answer = self.robots(client).await;
        self.pause();
        let now = Instant::now();
        match (answer, &mut self.turn.known) {
            (Ok(robots), known) => {
                *known = Some(Known { robots, read_at: now, stale_at: now + FRESH });
                Ok(())
            }
            (Err(_), Some(known)) if known.read_at.elapsed() < USABLE => {
                known.stale_at = now + ASK_AGAIN;
                Ok(())
            }
            (Err(error), known) => {
                *known = None;
                let message = format!("the robots.txt of {}: {error}", self.host.origin);
                let retry_after = error.retry_after.or(Some(ASK_AGAIN));
                Err(FetchError { retry_after, message, ..error })
            }
        }
    }

    async fn robots(&self, client: &Outbound) -> Result<Robots, FetchError> {
        let url = Url::parse(&format!("{}/robots.txt", self.host.origin))
            .map_err(|fault| FetchError::new(ErrorKind::Connection, fault.to_string()))?;
        let response = send(client, Method::GET, url, |request| request).await?;
        let status = response.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(fetch::refusal(&response));
        }
        if !status.is_success() {
            // Not there; or behind more redirects than anybody has to follow.
            return Ok(Robots::default());
        }
        Ok(Robots::parse(&beginning(response).await?, PRODUCT))
    }

    /// The host is left alone from now on.
    fn pause(&mut self) {
        let asked = self.turn.known.as_ref().and_then(|known| known.robots.crawl_delay);
        self.turn.free_at = Instant::now() + self.delay.max(asked.unwrap_or_default());
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.pause();
    }
}

/// As much of a body as is read of a robots.txt.
async fn beginning(mut response: Response) -> Result<String, FetchError> {
    let mut body = BytesMut::new();
    while body.len() < READ_BYTES
        && let Some(chunk) = response.chunk().await.map_err(fetch::broken)?
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(READ_BYTES);
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Arc<Host> {
        Host::of(&Url::parse(&format!("https://{name}.example.com/any")).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_left_alone_after_each_visit_for_as_long_as_the_longer_of_two_says() {
        let host = host("pause");
        let start = Instant::now();
        drop(host.visit(Duration::from_secs(2)).await);
        drop(host.visit(Duration::from_secs(1)).await);
        assert_eq!(start.elapsed().as_secs(), 2);
        let mut visit = host.visit(Duration::ZERO).await;
        assert_eq!(start.elapsed().as_secs(), 3);
        let robots = Robots::parse("User-agent: *\nCrawl-delay: 30", PRODUCT);
        let now = Instant::now();
        visit.turn.known = Some(Known { robots, read_at: now, stale_at: now + FRESH });
        drop(visit);
        drop(host.visit(Duration::from_secs(1)).await);
        assert_eq!(start.elapsed().as_secs(), 33);
        host.is_left_alone().await;
        assert_eq!(start.elapsed().as_secs(), 63);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_visits_a_host_and_each_host_has_its_own_turn() {
        let (one, same, other) = (host("turn"), host("turn"), host("turn2"));
        let visit = one.visit(Duration::ZERO).await;
        let second = tokio::time::timeout(Duration::from_secs(60), same.visit(Duration::ZERO));
        assert!(second.await.is_err());
        drop(other.visit(Duration::ZERO).await);
        drop(visit);
        drop(same.visit(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn hosts_that_nobody_keeps_are_forgotten_at_last() {
        let kept = host("kept");
        for n in 0..10 * MAX_OTHERS {
            host(&format!("other{n}"));
        }
        assert!(Arc::ptr_eq(&kept, &host("kept")));
        // Other tests may keep some of theirs.
        assert!(HOSTS.lock().unwrap().len() < 5 * MAX_OTHERS);
    }
}
