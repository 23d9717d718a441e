//! The connections of a feed: one, or several where one does not follow all symbols.
//!
//! Each has its own symbols and its own end: while others stand, one that broke is waited out and
//! made anew by itself. A feed that has only one, or that can make none, ends with the reason, and
//! coming back is the [supervisor](crate::supervise)'s.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex as Lock, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use schemas::Symbol;
use service::Backoff;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};

use super::{
    Feed,
    connection::{self, Socket},
    session,
    spread::Spread,
};
use crate::{
    outlet::{Outlet, backoff, delay},
    source::{FetchError, Followed},
};

/// A connection that lasted this long was a good one: the next wait is short again.
const LASTING: Duration = Duration::from_secs(60);

/// Follows the symbols over as many connections as they need, until that cannot go on.
///
/// All of them are in one task, so what is handed over and what is remembered of it are one step.
pub(super) async fn run(feed: &Feed, mut symbols: Followed, outlet: Outlet) -> FetchError {
    let mut spread = Spread::new(feed.symbols_per_connection);
    let door = Door::new(feed);
    let (mut followed, mut connections) = (Vec::new(), FuturesUnordered::new());
    loop {
        let wanted = symbols.now();
        feed.remembered().retain(|symbol| wanted.contains(symbol));
        let parts = spread.follow(&wanted);
        for (part, sender) in parts.iter().zip(&followed) {
            change(sender, part);
        }
        for part in parts.iter().skip(followed.len()) {
            let (sender, symbols) = Followed::new(part.clone());
            connections.push(connect_again(feed, &door, symbols, outlet.another()));
            followed.push(sender);
        }
        door.connections.store(followed.len(), Ordering::Relaxed);
        tokio::select! {
            Some(error) = connections.next() => return error,
            () = symbols.changed() => {}
        }
    }
}

fn change(followed: &watch::Sender<Arc<BTreeSet<Symbol>>>, to: &BTreeSet<Symbol>) {
    followed.send_if_modified(|before| {
        **before != *to && {
            *before = Arc::new(to.clone());
            true
        }
    });
}

/// One connection after the other for these symbols, until the feed has to end.
async fn connect_again(
    feed: &Feed,
    door: &Door<'_>,
    mut symbols: Followed,
    mut outlet: Outlet,
) -> FetchError {
    let mut backoff = backoff();
    loop {
        while symbols.now().is_empty() {
            outlet.rest();
            symbols.changed().await;
        }
        let (socket, standing) = match door.open(&mut outlet).await {
            Ok(opened) => opened,
            Err(error) => return error,
        };
        let began = Instant::now();
        let ended = session::run(feed, socket, &mut symbols, &mut outlet).await;
        drop(standing);
        let error = match ended {
            // Nothing is followed any more, or the connection was as old as it may be.
            Ok(()) => continue,
            Err(error) if door.has_one_connection() => return error,
            Err(error) => error,
        };
        if began.elapsed() >= LASTING {
            backoff.reset();
        }
        door.stay_away(error.retry_after.unwrap_or_default());
        outlet.back_off(&error, &mut backoff).await;
    }
}

/// The way to the provider: connections are made one at a time, and none in haste.
struct Door<'a> {
    feed: &'a Feed,
    connections: AtomicUsize,
    standing: AtomicUsize,
    /// Whoever has it may connect.
    turn: Mutex<Backoff>,
    /// No connection is made sooner.
    next: Lock<Instant>,
}

/// A connection that stands for as long as this is kept.
struct Standing<'a>(&'a AtomicUsize);

impl<'a> Standing<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> Door<'a> {
    fn new(feed: &'a Feed) -> Self {
        Self {
            feed,
            connections: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            turn: Mutex::new(backoff()),
            next: Lock::new(Instant::now()),
        }
    }

    fn has_one_connection(&self) -> bool {
        self.connections.load(Ordering::Relaxed) == 1
    }

    /// Connects when it is our turn, again and again while other connections stand; an error where
    /// none does.
    async fn open(&self, outlet: &mut Outlet) -> Result<(Socket, Standing<'_>), FetchError> {
        let mut backoff = self.turn.lock().await;
        loop {
            self.open_again().await;
            let error = match connection::connect(self.feed).await {
                Ok(socket) => {
                    backoff.reset();
                    self.stay_away(self.feed.patience.between);
                    return Ok((socket, Standing::new(&self.standing)));
                }
                Err(error) => error,
            };
            if self.standing.load(Ordering::Relaxed) == 0 {
                return Err(error);
            }
            outlet.failed(&error);
            outlet.backing_off();
            self.stay_away(delay(&error, &mut backoff));
        }
    }

    /// Waits until a connection may be made.
    async fn open_again(&self) {
        loop {
            let next = *self.next();
            if next <= Instant::now() {
                return;
            }
            sleep_until(next).await;
        }
    }

    /// Nobody connects for so long.
    fn stay_away(&self, time: Duration) {
        let mut next = self.next();
        *next = next.max(Instant::now() + time);
    }

    fn next(&self) -> MutexGuard<'_, Instant> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
