//! The providers, in a process of their own: a polled interface as Finnhub documents its quotes, and
//! feeds as Coinbase, Kraken and Binance document theirs. They remember what they have sent, and when
//! they were asked.

mod feeds;
mod polls;

use std::{
    io::{self, BufRead},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    routing::{any, get},
    serve::ListenerExt,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{load::Load, verdict::Sent};
use crate::{bench::statistics::Quantiles, print::print};

/// What the providers offer.
#[derive(Args)]
pub(crate) struct StubOptions {
    #[command(flatten)]
    load: Load,
}

/// What the providers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// From now on polls must be on time.
    Begin,
    /// Send nothing new, and report.
    End,
}

/// What the providers say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    /// They are reached at this `host:port`.
    Listening(String),
    /// Every symbol was asked for, and every connection follows some.
    Followed,
    /// That is all.
    Report(Report),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// All that was sent.
    pub(super) sent: Vec<Sent>,
    /// How many polls came since the beginning.
    pub(super) polls: usize,
    /// How late they were.
    pub(super) late: Quantiles,
    /// How many streaming connections there ever were.
    pub(super) connections: usize,
}

struct Stub {
    load: Load,
    started: Instant,
    polls: polls::Polls,
    sent: Mutex<Vec<Sent>>,
    /// Something new may be sent.
    open: watch::Sender<bool>,
    connections: AtomicUsize,
    /// How many connections follow something.
    following: AtomicUsize,
}

impl Stub {
    /// Remembers what is about to be sent; false where nothing new is to be sent any more.
    fn note(&self, sent: Sent) -> bool {
        let mut all = lock(&self.sent);
        let is_open = *self.open.borrow();
        if is_open {
            all.push(sent);
        }
        is_open
    }

    async fn until_followed(&self) {
        while self.following.load(Ordering::Relaxed) < self.load.connections
            || !self.polls.are_all_asked()
        {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn report(&self) -> Report {
        // Whoever looks at it later sends nothing.
        self.open.send_replace(false);
        let sent = std::mem::take(&mut *lock(&self.sent));
        let (polls, late) = self.polls.lateness(self.load.interval());
        Report { sent, polls, late, connections: self.connections.load(Ordering::Relaxed) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Offers it until standard input closes.
pub(crate) async fn offer(options: &StubOptions) -> Result<()> {
    let load = options.load;
    let stub = Arc::new(Stub {
        load,
        started: Instant::now(),
        polls: polls::Polls::new(load.polled),
        sent: Mutex::default(),
        open: watch::Sender::new(true),
        connections: AtomicUsize::new(0),
        following: AtomicUsize::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&Said::Listening(listener.local_addr()?.to_string()))?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let router = Router::new()
        .route("/api/v1/quote", get(polls::quote))
        .route("/{feed}", any(feeds::upgrade))
        .with_state(Arc::clone(&stub));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let told = Arc::clone(&stub);
    tokio::spawn(async move {
        told.until_followed().await;
        say(&Said::Followed)
    });
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Begin => stub.polls.begin(),
            Order::End => say(&Said::Report(stub.report()))?,
        }
    }
    Ok(())
}

fn orders() -> mpsc::Receiver<Order> {
    let (sender, orders) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { return };
            if sender.blocking_send(order).is_err() {
                return;
            }
        }
    });
    orders
}

fn say(said: &Said) -> Result<()> {
    print(format_args!("{}\n", serde_json::to_string(said)?))?;
    Ok(())
}
