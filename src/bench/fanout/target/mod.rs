//! The servers that are compared.

mod nats_server;
mod ours;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::{
    load::Protocol,
    publisher::Publisher,
    scenario::Scenario,
    server::{Kind, Listening},
};
use crate::{bench::process::Helper, config::Config};
use nats_server::NatsServer;
use ours::Ours;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// `lizards provide`, fed by a JetStream
    Ours,
    /// The same without io_uring
    OursPlain,
    /// nats-server's own WebSocket listener, fed by core NATS
    Nats,
    /// axum's `ws` with `tokio::sync::broadcast` and `TCP_NODELAY`
    Axum,
    /// One thread that writes finished frames to raw sockets
    Floor,
    /// The same with a task for each client
    Tasks,
    /// The floor by io_uring: one system call for many clients
    Ring,
}

impl Target {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursPlain => "ours-plain",
            Self::Nats => "nats",
            Self::Axum => "axum",
            Self::Floor => "floor",
            Self::Tasks => "tasks",
            Self::Ring => "ring",
        }
    }

    /// What its clients speak.
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Ours | Self::OursPlain => Protocol::Lizards,
            Self::Nats => Protocol::Nats,
            Self::Axum | Self::Floor | Self::Tasks | Self::Ring => Protocol::Plain,
        }
    }
}

/// A server that runs.
pub(super) struct Server {
    process: Process,
    /// Where its clients connect: `host:port`.
    pub(super) address: String,
    pub(super) publisher: Publisher,
}

enum Process {
    Ours(Box<Ours>),
    Nats(NatsServer),
    Helper(Helper),
}

impl Server {
    /// Starts it, without clients. `coalesce_ms` is how long ours may hold an update back, where
    /// that is not to be as configured.
    pub(super) async fn start(
        target: Target,
        scenario: Scenario,
        coalesce_ms: Option<u64>,
        config: &Config,
    ) -> Result<Self> {
        let kind = match target {
            Target::Ours | Target::OursPlain => {
                let mut settings = Vec::new();
                let coalesce = "provide.websocket.coalesce_ms";
                settings.extend(coalesce_ms.map(|ms| (coalesce, ms.to_string())));
                if target == Target::OursPlain {
                    settings.push(("provide.websocket.io_uring", "false".to_owned()));
                }
                return Ours::start(scenario, &settings, config).await;
            }
            Target::Nats => return NatsServer::start(config).await,
            Target::Axum => Kind::Axum,
            Target::Floor => Kind::Floor,
            Target::Tasks => Kind::Tasks,
            Target::Ring => Kind::Ring,
        };
        let args = ["bench", "fanout-server", kind.name(), scenario.name()];
        let (helper, mut answers) = Helper::start(&args)?;
        let listening: Listening = answers.hear().await?;
        let publisher = Publisher::feed(&listening.feed).await?;
        Ok(Self { process: Process::Helper(helper), address: listening.clients, publisher })
    }

    /// The process whose work is counted.
    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Ours(ours) => ours.pid(),
            Process::Nats(server) => server.pid(),
            Process::Helper(helper) => helper.pid(),
        }
    }

    /// The process that stores the ticks for it, whose work is told beside.
    pub(super) fn broker_pid(&self) -> Option<u32> {
        match &self.process {
            Process::Ours(ours) => Some(ours.broker_pid()),
            Process::Nats(_) | Process::Helper(_) => None,
        }
    }

    /// Stops it, and waits for that.
    pub(super) async fn stop(self) {
        match self.process {
            Process::Ours(ours) => ours.stop().await,
            Process::Nats(server) => server.stop().await,
            Process::Helper(helper) => helper.stop().await,
        }
    }
}
