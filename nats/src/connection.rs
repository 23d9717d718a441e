//! The connection to NATS.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, BucketError};

/// How NATS is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// The servers, separated by commas. Empty: `lizards up` starts a private one, and a single
    /// role expects one at `nats://127.0.0.1:4222`.
    pub url: String,
    /// A user name, where the server asks for one.
    pub user: String,
    /// Secret: the user's password.
    pub password: String,
    /// Secret: a token, where the server asks for one.
    pub token: String,
    /// The port of the private server that `lizards up` starts, on 127.0.0.1.
    pub port: u16,
    /// The port of its HTTP monitoring, on 127.0.0.1.
    pub monitor_port: u16,
    /// The program to start as the private server. Empty: a `nats-server` of the tools folder
    /// `.tools`, else the one on PATH.
    pub server: String,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::new(),
            password: String::new(),
            token: String::new(),
            port: 4222,
            monitor_port: 8222,
            server: String::new(),
        }
    }
}

/// NATS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error("no NATS server answers at {url}: {fault}")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        fault: String,
    },
    /// The server does not let us in.
    #[error("the NATS server at {url} refuses the credentials")]
    Unauthorized {
        /// Where.
        url: String,
    },
    /// JetStream is off.
    #[error("the NATS server at {url} runs without JetStream; start it with -js")]
    NoJetStream {
        /// Where.
        url: String,
    },
    /// The server is too old.
    #[error("the NATS server at {url} is version {version}; 2.14 or newer is needed")]
    TooOld {
        /// Where.
        url: String,
        /// What it says.
        version: String,
    },
}

/// A connection to NATS, which reconnects by itself. Cheap to clone.
#[derive(Clone)]
pub struct Nats {
    pub(crate) client: async_nats::Client,
    pub(crate) jetstream: async_nats::jetstream::Context,
    pub(crate) config: NatsConfig,
}

/// How long a request to the server may take. Short, because requests are repeated: a cluster
/// that elects a leader answers the next one.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

impl Nats {
    /// Connects, and checks that the server is new enough and has JetStream.
    pub async fn connect(
        config: &NatsConfig,
        lease_ttl: Duration,
        replicas: usize,
    ) -> Result<Self, ConnectError> {
        let client = one_connection_options(config)
            .name("lizards")
            .connect(config.addresses())
            .await
            .map_err(|fault| config.fault(&fault))?;
        let info = client.server_info();
        if !is_new_enough(&info.version) {
            return Err(ConnectError::TooOld { url: config.redacted(), version: info.version });
        }
        if !info.jetstream {
            return Err(ConnectError::NoJetStream { url: config.redacted() });
        }
        let jetstream = async_nats::jetstream::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .build(client.clone());
        Ok(Self { client, jetstream, config: config.clone(), lease_ttl, replicas })
    }

    /// The version of the server.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// How long the server takes to answer.
    pub async fn round_trip(&self) -> Result<Duration, ConnectError> {
        let start = std::time::Instant::now();
        self.client.flush().await.map_err(|fault| ConnectError::Unreachable {
            url: self.config.redacted(),
            fault: fault.to_string(),
        })?;
        Ok(start.elapsed())
    }
}
