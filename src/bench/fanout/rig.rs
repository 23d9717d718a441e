//! A server under measurement, its clients, and what publishes to it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    load::{Order, Said},
    mode::Pattern,
    scenario::{self, Scenario},
    target::{Server, Target},
};
use crate::bench::{
    process::{Answers, CpuTime, Helper},
    statistics::Quantiles,
};

/// How long nothing may arrive while something is on its way.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Everything that belongs to one target.
pub(super) struct Rig {
    pub(super) target: Target,
    scenario: Scenario,
    server: Server,
    load: Load,
    /// How many clients follow each symbol.
    followers: Vec<u64>,
    /// The sequence of the newest tick.
    published: u64,
}

/// What one run of a pattern came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) ticks: u64,
    pub(super) deliveries: u64,
    pub(super) elapsed: Duration,
    /// Of the server.
    pub(super) cpu: Duration,
    /// Of what stores the ticks for it.
    pub(super) broker_cpu: Option<Duration>,
    pub(super) delays: Quantiles,
}

impl Rig {
    /// Connects clients to a server that runs.
    pub(super) async fn connect(
        target: Target,
        server: Server,
        scenario: Scenario,
        clients: u64,
    ) -> Result<Self> {
        let load = Load::start(target, &server.address, scenario, clients).await?;
        let followers = scenario::followers(scenario, clients);
        Ok(Self { target, scenario, server, load, followers, published: 0 })
    }

    /// The first client stops reading from now on.
    pub(super) async fn stall_one(&mut self) -> Result<()> {
        self.load.helper.give(&Order::Stall).await
    }

    /// Publishes in this pattern for a time, until every client has everything, in order and once.
    pub(super) async fn run(&mut self, pattern: &Pattern, duration: Duration) -> Result<Run> {
        self.drive(pattern, duration).await.with_context(|| self.target.name())
    }

    async fn drive(&mut self, pattern: &Pattern, duration: Duration) -> Result<Run> {
        self.load.helper.give(&Order::Sample(pattern.sample)).await?;
        let (first, start) = (self.published + 1, Instant::now());
        let (cpu, broker_cpu) = (self.cpu()?, self.broker_cpu()?);
        let mut due = start;
        while start.elapsed() < duration {
            let ahead = self.published + pattern.batch;
            self.load.reached(ahead.saturating_sub(pattern.window)).await?;
            sleep_until(due).await;
            self.server.publisher.publish(self.scenario, self.published + 1, pattern.batch).await?;
            self.published = ahead;
            due += pattern.every;
        }
        self.load.reached(self.published).await?;
        let elapsed = start.elapsed();
        let cpu = self.cpu()?.since(&cpu);
        let broker_cpu = self.broker_cpu()?.zip(broker_cpu).map(|(now, then)| now.since(&then));
        self.server.publisher.settle().await?;
        let delays = self.load.delays().await?;
        let deliveries = (first..=self.published).filter_map(|seq| {
            self.followers.get(usize::try_from(self.scenario.symbol_of(seq)).ok()?)
        });
        let (ticks, deliveries) = (self.published + 1 - first, deliveries.sum());
        Ok(Run { ticks, deliveries, elapsed, cpu, broker_cpu, delays })
    }

    fn cpu(&self) -> Result<CpuTime> {
        CpuTime::of(self.server.pid())
    }

    fn broker_cpu(&self) -> Result<Option<CpuTime>> {
        self.server.broker_pid().map(CpuTime::of).transpose()
    }

    /// The process of the server.
    pub(super) fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// Ends all of it.
    pub(super) async fn stop(self) {
        self.load.helper.stop().await;
        self.server.stop().await;
    }
}

/// The clients' process.
struct Load {
    helper: Helper,
    /// Up to which sequence every client has everything, or what went wrong.
    through: watch::Receiver<Result<u64, String>>,
    delays: mpsc::Receiver<Quantiles>,
}

impl Load {
    async fn start(
        target: Target,
        address: &str,
        scenario: Scenario,
        clients: u64,
    ) -> Result<Self> {
        let clients = clients.to_string();
        let protocol = target.protocol().name();
        let args = ["bench", "fanout-load", protocol, scenario.name(), address, &clients];
        let (helper, mut answers) = Helper::start(&args)?;
        let said: Said = answers.hear().await.with_context(|| target.name())?;
        if said != Said::Connected {
            bail!("the clients of {} say {said:?}", target.name());
        }
        let (through, watched) = watch::channel(Ok(0));
        let (delays, reported) = mpsc::channel(1);
        tokio::spawn(listen(answers, through, delays));
        Ok(Self { helper, through: watched, delays: reported })
    }

    /// Waits until every client has everything up to this sequence.
    async fn reached(&mut self, seq: u64) -> Result<()> {
        loop {
            match &*self.through.borrow_and_update() {
                Ok(through) if *through >= seq => return Ok(()),
                Ok(_) => {}
                Err(fault) => bail!("{fault}"),
            }
            match timeout(STANDSTILL, self.through.changed()).await {
                Ok(changed) => changed.context("the clients are gone")?,
                Err(_) => bail!(
                    "something was lost: {seq} was published, and all clients have {:?}",
                    self.through.borrow()
                ),
            }
        }
    }

    async fn delays(&mut self) -> Result<Quantiles> {
        self.helper.give(&Order::Report).await?;
        timeout(STANDSTILL, self.delays.recv())
            .await
            .ok()
            .flatten()
            .ok_or_else(|| anyhow!("the clients say nothing"))
    }
}

/// Takes in what the clients say until they end.
async fn listen(
    mut answers: Answers,
    through: watch::Sender<Result<u64, String>>,
    delays: mpsc::Sender<Quantiles>,
) {
    while let Ok(said) = answers.next().await {
        match said {
            Said::Connected => {}
            Said::Through(seq) => {
                through.send_modify(|through| {
                    if through.is_ok() {
                        *through = Ok(seq);
                    }
                });
            }
            Said::Delays(quantiles) => drop(delays.send(quantiles).await),
            Said::Fault(fault) => drop(through.send(Err(fault))),
        }
    }
}
