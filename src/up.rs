//! `lizards up`: everything in one process.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use nats::server::Server;
use service::Telemetry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    config::Config,
    print::print,
    roles::{self, RoleName},
    signals,
};

/// Starts a private nats-server where none is configured, then all roles; returns when all have
/// drained.
pub(crate) async fn run(mut config: Config, telemetry: Telemetry) -> Result<()> {
    let shutdown = CancellationToken::new();
    signals::watch(shutdown.clone())?;
    for role in RoleName::ALL {
        role.check(&config)?;
    }
    roles::make_folder(&config)?;
    let mut listeners = Vec::new();
    for role in RoleName::ALL {
        listeners.push((role, role.bind(&config).await?));
    }
    let mut server = None;
    if config.nats.url.is_empty() {
        let folder = config.data_dir.join("nats");
        let starting = Server::start(&config.nats, &folder);
        let Some(started) = shutdown.run_until_cancelled(starting).await.transpose()? else {
            return Ok(());
        };
        started.url().clone_into(&mut config.nats.url);
        server = Some(started);
    }
    let ended = run_roles(&config, telemetry, shutdown, listeners, &mut server).await;
    if let Some(server) = server {
        server.stop().await;
    }
    ended
}

async fn run_roles(
    config: &Config,
    telemetry: Telemetry,
    shutdown: CancellationToken,
    listeners: Vec<(RoleName, tokio::net::TcpListener)>,
    server: &mut Option<Server>,
) -> Result<()> {
    let Some(context) = roles::connect(config, telemetry, shutdown.clone()).await? else {
        return Ok(());
    };
    let mut addresses = Vec::new();
    let mut running = JoinSet::new();
    for (role, listener) in listeners {
        addresses.push((role, listener.local_addr()?));
        let (config, context) = (config.clone(), context.clone());
        running.spawn(async move { (role, role.run(config, context, listener).await) });
    }
    // The pipeline runs on where nobody reads this.
    let _ = print(addresses_text(config, &addresses, server.as_ref()));

    let mut ended = Ok(());
    loop {
        tokio::select! {
            role = running.join_next() => match role {
                None => break,
                Some(Ok((_, Ok(())))) => {}
                Some(Ok((role, Err(fault)))) => {
                    error!(role = role.as_str(), error = format!("{fault:#}"), "the role failed");
                    ended = ended.and(Err(fault.context(format!("{} failed", role.as_str()))));
                }
                Some(Err(fault)) => ended = ended.and(Err(fault).context("a role panicked")),
            },
            fault = ended_early(server), if !shutdown.is_cancelled() => ended = Err(fault.into()),
        }
        // One for all: a pipeline with a missing part would only look as if it ran.
        shutdown.cancel();
    }
    let _ = context.nats.flush().await;
    ended
}

async fn ended_early(server: &mut Option<Server>) -> nats::server::ServerError {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}

/// What a person wants to know first. On standard output; the log goes to standard error.
fn addresses_text(
    config: &Config,
    addresses: &[(RoleName, SocketAddr)],
    server: Option<&Server>,
) -> String {
    let mut lines = vec!["Lizards is up.".to_owned()];
    for (role, address) in addresses {
        let address = roles::reachable(*address);
        match role {
            RoleName::Gateway => {
                lines.push(format!("  page       http://{address}/"));
                lines.push(format!("  WebSocket  ws://{address}/ws"));
            }
            _ => lines.push(format!("  {:<9}  http://{address}", role.as_str())),
        }
    }
    lines.push(format!("  NATS       {}", config.nats.addresses_shown()));
    if let Some(server) = server {
        lines.push(format!("  monitoring {}", server.monitor_url()));
    }
    lines.push(format!("  data       {}", config.data_dir.display()));
    lines.push(format!("  sources    {}", config.ingest.sources.join(", ")));
    if config.ingest.sources.iter().any(|source| source == "sim") {
        lines.push("The prices of the source sim are simulated.".to_owned());
    }
    lines.push("Ctrl-C drains and stops.\n".to_owned());
    lines.join("\n")
}
