//! What all polled providers share: when each symbol is asked for, within the quota of the account,
//! and what follows from each answer.
//!
//! The symbols are spread over the interval ([`schedule`]), and at most [`IN_FLIGHT`] requests are
//! under way, so that a slow answer delays nobody else; where the quota cannot keep the interval,
//! whoever has waited longest is next. A fault of the provider is waited out by all, and then one
//! request finds out whether it is over; a fault of one symbol, such as one that the provider does
//! not know, delays that symbol only.

mod pages;
mod pause;
mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::{Client, RequestBuilder, Url};
use schemas::{Format, RawTick, Source as Name, Symbol};
use tokio::time::{Instant, sleep_until};

use super::fetch::{self, Answer, Expected, Page, fetch};
use crate::{
    config,
    outlet::Outlet,
    quota::AHEAD,
    source::{ErrorKind, FetchError, Session, Source},
    stored::Stored,
};

use pause::Pause;
use schedule::{Group, Schedule};

pub(super) use crate::quota::Account;
pub(super) use pages::Pages;

/// How many requests to one provider are under way at most: as many as 2,000 symbols every 10 s take
/// where an answer comes after 0.3 s.
const IN_FLIGHT: usize = 64;

/// For how many of the next requests the quota is reserved at most.
const FORESEEN: usize = 256;

/// What is special about a polled provider.
pub(super) trait Provider: Send + Sync + 'static {
    /// How its answers are read.
    fn format(&self) -> Format;

    /// What it documents its answers to be.
    fn expected(&self) -> Expected {
        Expected::Json
    }

    /// How many symbols one request may ask for.
    fn batch(&self) -> usize {
        1
    }

    /// What a request for so many symbols takes of the quota.
    fn cost(&self, _symbols: usize) -> u32 {
        1
    }

    /// The symbol in whose name the answer about these is published: none where there are many, or
    /// where the answer may name it otherwise than the request.
    fn subject<'a>(&self, symbols: &'a [Symbol]) -> Option<&'a Symbol> {
        match symbols {
            [symbol] => Some(symbol),
            _ => None,
        }
    }

    /// The request for the prices of these symbols, at most as many as a batch.
    fn request(&self, client: &Client, symbols: &[Symbol]) -> RequestBuilder;

    /// What the provider tells with status 200 instead of prices, without secrets.
    fn fault(&self, _body: &[u8]) -> Option<FetchError> {
        None
    }

    /// Whether a failure is that of the symbols asked for, and others may be had.
    fn is_of_symbols(&self, error: &FetchError) -> bool {
        error.kind == ErrorKind::NotFound
    }
}

/// A polled provider.
pub(super) struct Poll {
    pub(super) name: Name,
    pub(super) url: Url,
    pub(super) symbols: Vec<Symbol>,
    /// How long after a symbol was asked for it is asked for again.
    pub(super) interval: Duration,
    /// Outlives a session: the provider goes on counting.
    pub(super) account: Account,
    pub(super) provider: Box<dyn Provider>,
}

#[async_trait]
impl Source for Poll {
    fn name(&self) -> &Name {
        &self.name
    }

    fn url(&self) -> String {
        config::shown(&self.url)
    }

    fn symbols(&self) -> Vec<Symbol> {
        self.symbols.clone()
    }

    fn divides(&self) -> bool {
        true
    }

    fn account(&self) -> Option<&Account> {
        Some(&self.account)
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { mut symbols, stored, outlet, .. } = session;
        let largest = self.provider.cost(self.provider.batch());
        let client = fetch::client()?;
        let mut schedule = Schedule::new(self.provider.batch(), self.interval);
        schedule.follow(&symbols.now(), Instant::now());
        let mut polling = Polling { poll: self, outlet, stored, schedule, pause: Pause::new() };
        let mut asking = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            self.account.share(symbols.share(), largest);
            let room = if polling.pause.is_probing() { 1 } else { IN_FLIGHT };
            let foreseen = if polling.pause.is_probing() { 1 } else { FORESEEN };
            self.account.want(polling.costs_until(now + AHEAD).take(foreseen), now);
            let next = polling.next();
            let start = next.and_then(|(due, cost)| match due > now {
                true => Some(due),
                false => self.account.free_at(cost, now),
            });
            let in_sight = next.and_then(|(due, _)| due.checked_sub(AHEAD)).filter(|at| *at > now);
            tokio::select! {
                Some((group, started, answer)) = asking.next() => {
                    polling.answered(group, started, answer).await;
                }
                () = symbols.changed() => {
                    polling.schedule.follow(&symbols.now(), Instant::now());
                }
                () = self.account.changed() => {}
                () = at(in_sight) => {}
                () = at(start), if asking.len() < room => {
                    let now = Instant::now();
                    if !next.is_some_and(|(_, cost)| self.account.take(cost, now)) {
                        continue;
                    }
                    let Some(group) = polling.schedule.take() else { continue };
                    polling.outlet.quota(self.account.left(now));
                    asking.push(self.ask(&client, group));
                }
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Poll {
    async fn ask(
        &self,
        client: &Client,
        group: Group,
    ) -> (Group, Instant, Result<Answer, FetchError>) {
        let started = Instant::now();
        let request = self.provider.request(client, &group.symbols);
        let answer = fetch(request.headers(group.validators.as_conditions())).await;
        let answer = answer.and_then(|answer| match answer {
            Answer::Page(page) => {
                page.check(self.provider.expected())?;
                self.provider.fault(&page.body).map_or(Ok(Answer::Page(page)), Err)
            }
            Answer::NotModified => Ok(answer),
        });
        (group, started, answer)
    }

    fn tick(&self, id: String, symbol: Option<Symbol>, page: Page) -> RawTick {
        RawTick {
            id,
            source: self.name.clone(),
            symbol,
            received_at: page.received_at,
            content_type: page.content_type(self.provider.expected().media_type()),
            format: self.provider.format(),
            columns: None,
            body: page.body,
        }
    }
}

/// One session.
struct Polling<'a> {
    poll: &'a Poll,
    outlet: Outlet,
    stored: Stored,
    schedule: Schedule,
    pause: Pause,
}

impl Polling<'_> {
    /// When the next request may be sent, as far as the provider's quota allows it, and what it takes
    /// of that.
    fn next(&self) -> Option<(Instant, u32)> {
        let (due, symbols) = self.schedule.next()?;
        Some((due.max(self.pause.until()), self.poll.provider.cost(symbols)))
    }

    /// What the requests take of the quota that may be sent by that time, in their order.
    fn costs_until(&self, time: Instant) -> impl Iterator<Item = u32> {
        let is_paused = self.pause.until() > time;
        let due = self.schedule.due_until(time).filter(move |_| !is_paused);
        due.map(|symbols| self.poll.provider.cost(symbols))
    }

    /// Does what follows from an answer, and says when its symbols are asked for again.
    async fn answered(
        &mut self,
        mut group: Group,
        started: Instant,
        answer: Result<Answer, FetchError>,
    ) {
        let due = match answer {
            Ok(answer) => {
                self.pause.worked(started);
                group.works();
                match answer {
                    Answer::Page(page) => self.publish(&mut group, page).await,
                    Answer::NotModified => self.outlet.unchanged(),
                }
                group.due + self.poll.interval
            }
            Err(error) if self.poll.provider.is_of_symbols(&error) => {
                let message = format!("{}: {error}", group.named());
                self.outlet.failed(&FetchError { message, ..error });
                Instant::now() + group.absent(self.poll.interval)
            }
            Err(error) => {
                self.outlet.failed(&error);
                self.pause.failed(&error, started);
                Instant::now() + group.failed()
            }
        };
        if self.pause.is_on() {
            self.outlet.backing_off();
        }
        self.schedule.put_back(group, due.max(Instant::now()));
    }

    /// Publishes a page, unless it is the one that its symbols had before.
    async fn publish(&mut self, group: &mut Group, page: Page) {
        group.validators = page.validators();
        let symbol = self.poll.provider.subject(&group.symbols).cloned();
        if group.last_page.is_none()
            && let Some(symbol) = &symbol
        {
            let newest = self.stored.newest_of(symbol).await;
            group.last_page = newest.and_then(|id| pages::hash_of(&id).map(str::to_owned));
        }
        let hash = pages::short_hash(&page.body);
        if group.last_page.as_ref() == Some(&hash) {
            return self.outlet.unchanged();
        }
        let interval = self.poll.interval.as_secs();
        let id = pages::id(&self.poll.name, symbol.as_ref(), page.received_at, interval, &hash);
        group.last_page = Some(hash);
        self.outlet.send(self.poll.tick(id, symbol, page)).await;
    }
}
