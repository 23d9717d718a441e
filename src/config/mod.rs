//! The configuration: one TOML file, every key overridable by environment and flags.
//!
//! Each crate has its own section with its own defaults; here they are put together, in layers:
//! defaults, file, environment, flags. The defaults name every key there is, so a key that is not
//! among them is refused by name.

mod environment;
mod keys;
mod load;
mod show;

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use nats::topology::StreamsConfig;
use schemars::JsonSchema;
use schemas::{HtmlSite, Records};
use serde::{Deserialize, Serialize};

pub(crate) use environment::{Environment, ProcessEnvironment};
pub(crate) use load::{Loaded, Origin, Overrides};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where data is kept: the private nats-server's streams and the embedded stores.
    pub(crate) data_dir: PathBuf,
    /// Logging.
    pub(crate) log: service::LogConfig,
    /// What all services share.
    pub(crate) service: service::ServiceConfig,
    /// NATS.
    pub(crate) nats: nats::NatsConfig,
    /// What carries the ticks.
    pub(crate) broker: BrokerConfig,
    /// How much the streams keep.
    pub(crate) streams: StreamsConfig,
    /// The role `ingest`.
    pub(crate) ingest: ingest::Config,
    /// The role `process`.
    pub(crate) process: process::Config,
    /// The role `provide`.
    pub(crate) provide: provide::Config,
    /// The role `gateway`.
    pub(crate) gateway: gateway::Config,
    /// Web pages with prices: an array of tables `[[html]]`. Each is the source `html:<name>`.
    pub(crate) html: Vec<HtmlSite>,
    /// How the CSV files and the NDJSON of sources are read: an array of tables `[[records]]`.
    pub(crate) records: Vec<Records>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            log: service::LogConfig::default(),
            service: service::ServiceConfig::default(),
            nats: nats::NatsConfig::default(),
            broker: BrokerConfig::default(),
            streams: StreamsConfig::default(),
            ingest: ingest::Config::default(),
            process: process::Config::default(),
            provide: provide::Config::default(),
            gateway: gateway::Config::default(),
            html: Vec::new(),
            records: Vec::new(),
        }
    }
}

/// What carries the ticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BrokerConfig {
    /// `jetstream` or `rabbitmq`. The registry and the buckets stay with NATS either way.
    pub(crate) kind: BrokerKind,
    /// Secret: where RabbitMQ is, with the password.
    pub(crate) rabbitmq_url: String,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            kind: BrokerKind::Jetstream,
            rabbitmq_url: "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned(),
        }
    }
}

/// The brokers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BrokerKind {
    /// NATS JetStream.
    Jetstream,
    /// RabbitMQ streams.
    Rabbitmq,
}

impl Config {
    /// Finds what the types cannot: values that cannot be used, whatever the role.
    pub(crate) fn check(&self) -> Result<()> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(anyhow!("data_dir: it is empty; `.` is the current folder"));
        }
        if self.nats.url.contains('@') {
            return Err(anyhow!(
                "nats.url: credentials belong into nats.user and nats.password, or nats.token, \
                 where they stay hidden"
            ));
        }
        if self.service.lease_ttl_ms < 1_000 {
            return Err(anyhow!(
                "service.lease_ttl_ms: {} is too short; at least 1000",
                self.service.lease_ttl_ms
            ));
        }
        if ![1, 3, 5].contains(&self.streams.replicas) {
            return Err(anyhow!("streams.replicas: {} is not 1, 3 or 5", self.streams.replicas));
        }
        if self.streams.duplicate_window_secs == 0 {
            return Err(anyhow!("streams.duplicate_window_secs: 0 would keep no message id"));
        }
        Ok(())
    }
}
