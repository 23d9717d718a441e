//! The servers that ours is compared with, except nats-server: processes of their own.
//!
//! Each takes ticks on one port ([`feed`]) and WebSocket clients on another, at
//! `/ws?symbols=…`, as ours does.

mod axum;
mod crowd;
mod feed;
mod floor;
mod handshake;
mod ring;
mod tasks;

use std::io;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::scenario::Scenario;
use crate::print::print;

/// Which server to be.
#[derive(Args)]
pub(crate) struct ServerOptions {
    kind: Kind,
    scenario: Scenario,
}

/// The servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// axum's `ws` with `tokio::sync::broadcast`.
    Axum,
    /// One thread that writes finished frames to raw sockets.
    Floor,
    /// The same with a task for each client.
    Tasks,
    /// The same as `Floor` by io_uring.
    Ring,
}

impl Kind {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Floor => "floor",
            Self::Tasks => "tasks",
            Self::Ring => "ring",
        }
    }
}

/// Where a server listens: the first thing it says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listening {
    /// For ticks: `host:port`.
    pub(super) feed: String,
    /// For clients: `host:port`.
    pub(super) clients: String,
}

impl Listening {
    fn say(&self) -> Result<()> {
        print(format_args!("{}\n", serde_json::to_string(self)?))?;
        Ok(())
    }
}

/// Any free port of this machine.
const ANY: &str = "127.0.0.1:0";

/// Serves until standard input closes.
pub(crate) fn serve(options: &ServerOptions, runtime: &Runtime) -> Result<()> {
    match options.kind {
        Kind::Axum => runtime.block_on(axum::start(options.scenario))?,
        Kind::Floor => floor::start(options.scenario)?,
        Kind::Ring => ring::start(options.scenario)?,
        Kind::Tasks => runtime.block_on(tasks::start(options.scenario))?,
    }
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    // Nothing is worth a farewell.
    std::process::exit(0)
}
