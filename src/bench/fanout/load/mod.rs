//! The clients: one thread in a process of its own that holds all connections, and sees of every
//! message whether it is the one of its symbol that must come next.
//!
//! What it uses itself is not counted, but it takes its share of the machine, so it does little: a
//! read for all that has come, the heads of frames, and a number at a known place.

mod client;
mod connect;
mod frame;

use std::{
    io::{self, BufRead},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use crate::{
    bench::statistics::Quantiles,
    print::{complain, print},
};
use client::Client;

/// Whom to connect to, and how often.
#[derive(Args)]
pub(crate) struct LoadOptions {
    protocol: Protocol,
    scenario: Scenario,
    /// `host:port` of the server.
    address: String,
    clients: u64,
}

/// What is spoken inside the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Protocol {
    /// That of Lizards, where a subscription is confirmed.
    Lizards,
    /// The same updates and nothing else.
    Plain,
    /// That of NATS.
    Nats,
}

impl Protocol {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lizards => "lizards",
            Self::Plain => "plain",
            Self::Nats => "nats",
        }
    }
}

/// What the clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Look at the time of every so manieth update; of none where it is 0.
    Sample(u64),
    /// Say how long those took, and forget them.
    Report,
    /// The first client stops reading.
    Stall,
}

/// What the clients say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    /// All are connected and subscribed.
    Connected,
    /// Every client has everything that is for it, up to this sequence.
    Through(u64),
    /// How long updates took to come.
    Delays(Quantiles),
    /// Something else came than what should have.
    Fault(String),
}

/// The shortest time between two words about how far it is.
const REPORT_EVERY: Duration = Duration::from_micros(500);

/// The token of what wakes the thread for an order.
const ORDER: Token = Token(usize::MAX);

/// How much is read at a time.
const BUFFER: usize = 256 * 1024;

/// Connects, and receives until standard input closes.
pub(crate) fn load(options: &LoadOptions) -> Result<()> {
    let mut crowd = Crowd::connect(options)?;
    let (sender, orders) = channel();
    // Kept here, too: one that is dropped takes back that it woke.
    let waker = Arc::new(Waker::new(crowd.poll.registry(), ORDER)?);
    let woken_by = Arc::clone(&waker);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => drop(sender.send(order)),
                Err(fault) => complain(format_args!("{line}: {fault}")),
            }
            let _ = woken_by.wake();
        }
        drop(sender);
        let _ = woken_by.wake();
    });
    say(&Said::Connected)?;
    let ended = crowd.receive(&orders);
    drop(waker);
    ended
}

/// How long ago that was.
fn since(time: Timestamp) -> Option<Duration> {
    Timestamp::now().duration_since(time).try_into().ok()
}

fn say(said: &Said) -> Result<()> {
    print(format_args!("{}\n", serde_json::to_string(said)?))?;
    Ok(())
}

/// All clients.
struct Crowd {
    poll: Poll,
    clients: Vec<Client>,
    /// Whether the first of them is to be passed over.
    is_stalled: bool,
    sample: u64,
    delays: Vec<Duration>,
    /// What was last said about how far they are, and when.
    reported: (u64, Instant),
}

impl Crowd {
    fn connect(options: &LoadOptions) -> Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        for number in 0..options.clients {
            let connected = connect::connect(options, number);
            let mut client = connected.with_context(|| format!("client {number}"))?;
            let token = Token(usize::try_from(number)?);
            poll.registry().register(client.stream(), token, Interest::READABLE)?;
            clients.push(client);
        }
        let reported = (0, Instant::now());
        let (is_stalled, sample, delays) = (false, 0, Vec::new());
        Ok(Self { poll, clients, is_stalled, sample, delays, reported })
    }

    fn receive(&mut self, orders: &Receiver<Order>) -> Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut buffer = vec![0; BUFFER];
        let mut has_news = true;
        loop {
            let wait = has_news.then(|| REPORT_EVERY.saturating_sub(self.reported.1.elapsed()));
            match self.poll.poll(&mut events, wait) {
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            for event in &events {
                if event.token() == ORDER {
                    if !self.obey(orders)? {
                        return Ok(());
                    }
                    continue;
                }
                if self.is_stalled && event.token().0 == 0 {
                    continue;
                }
                let Some(client) = self.clients.get_mut(event.token().0) else { continue };
                let (sample, delays) = (self.sample, &mut self.delays);
                let read = client.read(&mut buffer, |place, published_at| {
                    if sample > 0 && place.is_multiple_of(sample) {
                        delays.extend(published_at().and_then(since));
                    }
                });
                if let Err(fault) = read {
                    self.poll.registry().deregister(client.stream())?;
                    say(&Said::Fault(format!("client {}: {fault:#}", event.token().0)))?;
                }
                has_news = true;
            }
            if has_news && self.reported.1.elapsed() >= REPORT_EVERY {
                self.report()?;
                has_news = false;
            }
        }
    }

    /// Says how far all are, where that is new.
    fn report(&mut self) -> Result<()> {
        let clients = self.clients.iter().skip(usize::from(self.is_stalled));
        let through = clients.map(|client| client.next_seq() - 1).min().unwrap_or_default();
        if through != self.reported.0 {
            say(&Said::Through(through))?;
        }
        self.reported = (through, Instant::now());
        Ok(())
    }

    /// Does what it was told; false where there is nobody any more to tell it.
    fn obey(&mut self, orders: &Receiver<Order>) -> Result<bool> {
        loop {
            match orders.try_recv() {
                Ok(Order::Sample(every)) => self.sample = every,
                Ok(Order::Report) => {
                    say(&Said::Delays(Quantiles::of(&mut self.delays)))?;
                    self.delays.clear();
                }
                Ok(Order::Stall) => self.is_stalled = true,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }
}
