//! The connection to NATS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Auth, AuthError, ConnectErrorKind, ConnectOptions, Event,
    jetstream::{self, ContextBuilder},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Where a NATS server is expected when nothing is configured.
const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

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
    /// Another connection, for what readers are sent. The server sends a reader up to 32 MiB ahead,
    /// and on one connection the renewal of a lease would wait behind that: whoever has much to
    /// catch up with would lose what it owns, begin again, and lose it again.
    pub(crate) deliveries: async_nats::Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) config: NatsConfig,
    /// How long a lease or a registration outlives its owner.
    pub(crate) lease_ttl: Duration,
    /// How many servers keep each stream and bucket.
    pub(crate) replicas: usize,
}

/// How long a request to the server may take. Short, because requests are repeated: a cluster
/// that elects a leader answers the next one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How many deliveries may wait for a reader. More than the server sends ahead, which are 32 MiB by its
/// flow control, with 64 bytes of subjects each and more: the client library drops what finds no room, and
/// a reader that misses one has to begin again.
const DELIVERIES: usize = 32 * 1024 * 1024 / 64;

/// The oldest server that is supported: older ones ignore some of what we ask for without an error.
const OLDEST_SERVER: (u64, u64) = (2, 14);

impl Nats {
    /// Connects, and checks that the server is new enough and has JetStream.
    pub async fn connect(
        config: &NatsConfig,
        lease_ttl: Duration,
        replicas: usize,
    ) -> Result<Self, ConnectError> {
        let client = config.open(ConnectOptions::new(), "lizards").await?;
        let info = client.server_info();
        let url = config.addresses_shown();
        if !is_new_enough(&info.version) {
            return Err(ConnectError::TooOld { url, version: info.version });
        }
        if !info.jetstream {
            return Err(ConnectError::NoJetStream { url });
        }
        let options = ConnectOptions::new().subscription_capacity(DELIVERIES);
        let deliveries = config.open(options, "lizards deliveries").await?;
        let jetstream = ContextBuilder::new().timeout(REQUEST_TIMEOUT).build(client.clone());
        Ok(Self { client, deliveries, jetstream, config: config.clone(), lease_ttl, replicas })
    }

    /// The version of the server.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// How often it has connected; a change is an interruption.
    pub(crate) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Waits until everything that was sent is with the server, as long as a request may take: a
    /// client that is reconnecting would wait for ever.
    pub async fn flush(&self) -> Result<(), ConnectError> {
        let fault = match tokio::time::timeout(REQUEST_TIMEOUT, self.client.flush()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        Err(ConnectError::Unreachable { url: self.config.addresses_shown(), fault })
    }

    /// Opens a connection that never reconnects: when it breaks, it is dead, and the token is
    /// cancelled.
    ///
    /// A client that reconnects sends what it still had queued through the new connection, behind
    /// a hole of what was lost with the old one. An ordered session cannot have that. Credentials
    /// that are good for one handshake only, and a single allowed attempt, are the way to tell
    /// async-nats so.
    pub(crate) async fn session(
        &self,
    ) -> Result<(async_nats::Client, CancellationToken), ConnectError> {
        let dead = CancellationToken::new();
        let used = Arc::new(AtomicBool::new(false));
        let config = self.config.clone();
        let options = ConnectOptions::with_auth_callback(move |_nonce| {
            let first = !used.swap(true, Ordering::Relaxed);
            let auth = config.auth();
            async move {
                if first { Ok(auth) } else { Err(AuthError::new("a session is one connection")) }
            }
        });
        let died = dead.clone();
        let client = options
            .max_reconnects(1)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    died.cancel();
                }
                std::future::ready(())
            })
            .name("lizards session")
            .connect(self.config.addresses())
            .await
            .map_err(|fault| self.config.fault(&fault))?;
        Ok((client, dead))
    }
}

impl NatsConfig {
    /// Where a private server is not meant: the servers to connect to.
    pub fn addresses(&self) -> Vec<String> {
        let url = if self.url.is_empty() { DEFAULT_URL } else { &self.url };
        url.split(',').map(|address| address.trim().to_owned()).collect()
    }

    /// The servers as people may see them: without what stands before an `@`.
    pub fn addresses_shown(&self) -> String {
        let shown = self.addresses().into_iter().map(|address| {
            let (scheme, rest) = address.split_once("://").unwrap_or(("nats", &address));
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        });
        shown.collect::<Vec<_>>().join(",")
    }

    fn auth(&self) -> Auth {
        let given = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let mut auth = Auth::new();
        auth.username = given(&self.user);
        auth.password = given(&self.password);
        auth.token = given(&self.token);
        auth
    }

    /// A connection that reconnects by itself.
    async fn open(
        &self,
        options: ConnectOptions,
        name: &str,
    ) -> Result<async_nats::Client, ConnectError> {
        let options = self.with_credentials(options).name(name);
        options.connect(self.addresses()).await.map_err(|fault| self.fault(&fault))
    }

    fn with_credentials(&self, options: ConnectOptions) -> ConnectOptions {
        if !self.token.is_empty() {
            options.token(self.token.clone())
        } else if !self.user.is_empty() {
            options.user_and_password(self.user.clone(), self.password.clone())
        } else {
            options
        }
    }

    fn fault(&self, fault: &async_nats::ConnectError) -> ConnectError {
        let url = self.addresses_shown();
        match fault.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ConnectError::Unauthorized { url }
            }
            _ => ConnectError::Unreachable { url, fault: fault.to_string() },
        }
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u64>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST_SERVER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_from_new_ones() {
        for (version, good) in [
            ("2.14.0", true),
            ("2.15.1", true),
            ("3.0.0-beta", true),
            ("2.9.10", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }

    #[test]
    fn several_servers_may_be_given() {
        let config = NatsConfig { url: "nats://a:1, nats://b:2".into(), ..NatsConfig::default() };
        assert_eq!(config.addresses(), ["nats://a:1", "nats://b:2"]);
        assert_eq!(NatsConfig::default().addresses(), ["nats://127.0.0.1:4222"]);
    }

    #[test]
    fn credentials_in_an_address_are_not_shown() {
        let url = "nats://me:hush@a:1,tls://b:2".into();
        let config = NatsConfig { url, ..NatsConfig::default() };
        assert_eq!(config.addresses_shown(), "nats://a:1,tls://b:2");
    }
}
