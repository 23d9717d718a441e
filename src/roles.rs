//! The four roles and what they share: how each is bound, started and run to its end.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use jiff::Timestamp;
use nats::{Broker, JetStream, Nats};
use service::{Context, Telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{BrokerKind, Config},
    signals,
};

/// The roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoleName {
    /// Fetches prices.
    Ingest,
    /// Decodes and validates.
    Process,
    /// Stores and serves.
    Provide,
    /// The one door.
    Gateway,
}

impl RoleName {
    /// All of them, in the order a tick meets them.
    pub(crate) const ALL: [Self; 4] = [Self::Ingest, Self::Process, Self::Provide, Self::Gateway];

    /// As on the command line and in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Process => "process",
            Self::Provide => "provide",
            Self::Gateway => "gateway",
        }
    }

    /// Where it is configured to listen.
    pub(crate) fn listen(self, config: &Config) -> &str {
        match self {
            Self::Ingest => &config.ingest.listen,
            Self::Process => &config.process.listen,
            Self::Provide => &config.provide.listen,
            Self::Gateway => &config.gateway.listen,
        }
    }

    /// Finds values of its configuration that cannot be used.
    pub(crate) fn check(self, config: &Config) -> Result<()> {
        match self {
            Self::Ingest => config.ingest.check(&config.html, &config.records)?,
            Self::Process => process::check(&config.process, &payloads(config))?,
            Self::Provide => {
                config.process.calendars()?;
                config.provide.validate()?;
            }
            Self::Gateway => config.gateway.validate()?,
        }
        Ok(())
    }

    /// Binds its listener.
    pub(crate) async fn bind(self, config: &Config) -> Result<TcpListener> {
        let (role, listen) = (self.as_str(), self.listen(config));
        TcpListener::bind(listen).await.map_err(|fault| {
            anyhow!("{role}.listen: {listen} cannot be listened on: {fault}; choose another with {role}.listen")
        })
    }

    /// Runs the role until shutdown.
    pub(crate) async fn run(
        self,
        config: Config,
        context: Context,
        listener: TcpListener,
    ) -> Result<()> {
        let data_dir = config.data_dir.as_path();
        match self {
            Self::Ingest => {
                let (sites, records) = (config.html, config.records);
                ingest::run(config.ingest, sites, records, context, listener, data_dir).await?;
            }
            Self::Process => {
                let payloads = payloads(&config);
                process::run(config.process, payloads, context, listener).await?;
            }
            Self::Provide => {
                let calendars = config.process.calendars()?;
                let alerts = provide::AlertLimits {
                    max_rules: config.process.alerts.max_rules,
                    allow_private_webhooks: config.process.alerts.allow_private_webhooks,
                };
                provide::run(config.provide, calendars, alerts, context, listener, data_dir)
                    .await?;
            }
            Self::Gateway => gateway::run(config.gateway, context, listener).await?,
        }
        Ok(())
    }
}

fn payloads(config: &Config) -> process::Payloads {
    process::Payloads { sites: config.html.clone(), records: config.records.clone() }
}

/// Runs one role against a NATS given by configuration.
pub(crate) async fn run_one(role: RoleName, config: Config, telemetry: Telemetry) -> Result<()> {
    let shutdown = CancellationToken::new();
    signals::watch(shutdown.clone())?;
    role.check(&config)?;
    make_folder(&config)?;
    let listener = role.bind(&config).await?;
    let Some(context) = connect(&config, telemetry, shutdown).await? else { return Ok(()) };
    let nats = context.nats.clone();
    let ended = role.run(config, context, listener).await;
    // The last acknowledgements may still be with the client.
    let _ = nats.flush().await;
    info!(role = role.as_str(), "stopped");
    ended
}

/// Connects to NATS and the broker, and makes the streams what the configuration says. Nothing
/// where the process was asked to stop meanwhile.
pub(crate) async fn connect(
    config: &Config,
    telemetry: Telemetry,
    shutdown: CancellationToken,
) -> Result<Option<Context>> {
    let connecting = async {
        let nats = connect_nats(config).await?;
        let broker = broker(config, &nats).await?;
        broker.declare().await?;
        anyhow::Ok((nats, broker))
    };
    let connected = shutdown.run_until_cancelled(connecting).await.transpose()?;
    Ok(connected.map(|(nats, broker)| Context {
        nats,
        broker,
        instance: instance_name(&config.service.instance).into(),
        advertise: config.service.advertise.as_str().into(),
        shutdown,
        shutdown_deadline: Duration::from_millis(config.service.shutdown_deadline_ms),
        telemetry,
    }))
}

/// Connects to NATS; a server that does not answer yet is given some seconds, because roles and
/// servers are often started together.
async fn connect_nats(config: &Config) -> Result<Nats> {
    const ATTEMPTS: u32 = 10;
    let mut attempt = 1;
    loop {
        match lease_connection(config).await {
            Err(fault @ nats::ConnectError::Unreachable { .. }) if attempt < ATTEMPTS => {
                warn!(%fault, attempt, "NATS does not answer yet");
            }
            result => return Ok(result?),
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// One attempt to connect.
pub(crate) async fn lease_connection(config: &Config) -> Result<Nats, nats::ConnectError> {
    let lease_ttl = Duration::from_millis(config.service.lease_ttl_ms);
    Nats::connect(&config.nats, lease_ttl, config.streams.replicas).await
}

/// What carries the ticks.
pub(crate) async fn broker(config: &Config, nats: &Nats) -> Result<Arc<dyn Broker>> {
    match config.broker.kind {
        BrokerKind::Jetstream => Ok(Arc::new(JetStream::new(nats.clone(), config.streams.clone()))),
        BrokerKind::Rabbitmq => rabbitmq(config).await,
    }
}

#[cfg(feature = "rabbitmq")]
async fn rabbitmq(config: &Config) -> Result<Arc<dyn Broker>> {
    let at = nats::RabbitMqConfig { url: config.broker.rabbitmq_url.clone() };
    let broker = nats::RabbitMq::connect(&at, config.streams.clone()).await;
    Ok(Arc::new(broker.context("broker.rabbitmq_url")?))
}

#[cfg(not(feature = "rabbitmq"))]
async fn rabbitmq(_config: &Config) -> Result<Arc<dyn Broker>> {
    Err(anyhow!("broker.kind: this lizards was built without RabbitMQ (cargo feature rabbitmq)"))
}

/// Makes the data folder, so that a disk that is full or read-only is said at once.
pub(crate) fn make_folder(config: &Config) -> Result<()> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("data_dir: {} cannot be made", config.data_dir.display()))
}

/// Where a listener can be reached from this machine.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip =
        if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

/// The configured name, or one that no other process has: the process and the time.
fn instance_name(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    format!("{}-{:x}", std::process::id(), Timestamp::now().as_microsecond())
}
