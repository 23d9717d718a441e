//! The configuration of the role.

use std::{collections::HashSet, time::Duration};

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, access::Permit, store::StoreConfig};

/// As long as the hash it makes (RFC 7518, section 3.2), in bytes.
const MIN_TOKEN_KEY: usize = 32;

/// The shortest API key, in bytes.
const MIN_API_KEY: usize = 16;

/// How ticks are stored and served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where HTTP and WebSocket requests are taken; port 0 is any free one.
    pub listen: String,
    /// Where ticks are stored.
    pub store: StoreConfig,
    /// How WebSocket clients are served.
    pub websocket: WebSocketConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            store: StoreConfig::default(),
            websocket: WebSocketConfig::default(),
        }
    }
}

impl Config {
    /// Can every value be used?
    pub fn validate(&self) -> Result<(), Error> {
        self.websocket.validate()?;
        self.store.validate()?;
        Ok(())
    }
}

/// How WebSocket clients are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocketConfig {
    /// How many updates may wait for one client before it is closed as too slow.
    pub queue_frames: usize,
    /// How long a tick may wait for others, in milliseconds, when it comes within that time after
    /// the one before it: many ticks in one system call cost little more than one. 0: never. A tick
    /// that comes alone never waits.
    pub coalesce_ms: u64,
    /// Write to many sockets by one system call, by Linux's io_uring; where the kernel has none,
    /// socket by socket.
    pub io_uring: bool,
    /// How many symbols and wildcards one connection may subscribe to.
    pub max_symbols: usize,
    /// How long a connection may be idle before a heartbeat, and how often it is pinged, in
    /// seconds; a client that answers no ping for twice as long is closed.
    pub heartbeat_secs: u64,
    /// How long a message of a client may be, in bytes.
    pub max_message_bytes: usize,
    /// How many clients may be connected at once; more are answered with 503.
    pub max_connections: u64,
    /// How many messages a second one client may send in the long run, pings among them; ten times
    /// as many at once. A client that sends more is told so and closed with 1008.
    pub max_messages_per_second: u32,
    /// The pages that may connect, such as `https://app.example.com`, beside those of our own
    /// address; an empty list is any page.
    pub allowed_origins: Vec<String>,
    /// Secret: signs session tokens with HMAC-SHA256; at least 32 bytes. Empty: nobody needs one.
    pub token_key: String,
    /// How long a session token opens connections, in seconds.
    pub token_ttl_secs: u64,
    /// Secret: who is given session tokens by `POST /session`: an array of tables
    /// `[[provide.websocket.api_keys]]` with a `name`, a `key` and `symbols`, such as `["BTC-*"]`.
    pub api_keys: Vec<ApiKey>,
    /// The address of `/ws` that `POST /session` gives out, such as `wss://prices.example.com/ws`.
    /// Empty: the address under which the caller reached us.
    pub public_url: String,
}

/// Somebody who is given session tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Who it is; it stands in the tokens.
    pub name: String,
    /// What it shows as `Authorization: Bearer <key>`; at least 16 bytes.
    pub key: String,
    /// What it may subscribe to: symbols, prefixes such as `BTC-*`, or `*` for all.
    pub symbols: Vec<String>,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            queue_frames: 1_024,
            coalesce_ms: 1,
            io_uring: true,
            max_symbols: 1_000,
            heartbeat_secs: 15,
            max_message_bytes: 65_536,
            max_connections: 50_000,
            max_messages_per_second: 100,
            allowed_origins: Vec::new(),
            token_key: String::new(),
            token_ttl_secs: 300,
            api_keys: Vec::new(),
            public_url: String::new(),
        }
    }
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("provide.websocket.{key}: {fault}")]
pub struct ConfigError {
    key: &'static str,
    fault: String,
}

impl WebSocketConfig {
    /// Can every value be used?
    pub fn validate(&self) -> Result<(), ConfigError> {
        let counts = [
            ("queue_frames", self.queue_frames, 1),
            ("max_symbols", self.max_symbols, 1),
            // The shortest bound under which a subscription of one symbol always fits.
            ("max_message_bytes", self.max_message_bytes, 256),
            ("max_messages_per_second", self.max_messages_per_second as usize, 1),
        ];
        for (key, value, least) in counts {
            if value < least {
                let fault = format!("{value} is too few; at least {least}");
                return Err(ConfigError { key, fault });
            }
        }
        let seconds =
            [("heartbeat_secs", self.heartbeat_secs), ("token_ttl_secs", self.token_ttl_secs)];
        for (key, value) in seconds {
            if !(1..=3_600).contains(&value) {
                let fault = format!("{value} is not between 1 and 3600");
                return Err(ConfigError { key, fault });
            }
        }
        if self.coalesce_ms > 1_000 {
            let fault = format!("{} is more than 1000", self.coalesce_ms);
            return Err(ConfigError { key: "coalesce_ms", fault });
        }
        let is_websocket = ["ws://", "wss://"].iter().any(|s| self.public_url.starts_with(s));
        if !self.public_url.is_empty() && !is_websocket {
            let fault = format!("{:?} does not begin with ws:// or wss://", self.public_url);
            return Err(ConfigError { key: "public_url", fault });
        }
        self.validate_access()
    }

    /// Faults of secrets are told without the secrets.
    fn validate_access(&self) -> Result<(), ConfigError> {
        let refuse = |key, fault: String| Err(ConfigError { key, fault });
        let is_origin = |origin: &&String| {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            !host.is_empty() && !host.contains('/')
        };
        if let Some(origin) = self.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            let fault = format!("{origin:?} is not an origin such as https://app.example.com");
            return refuse("allowed_origins", fault);
        }
        if (1..MIN_TOKEN_KEY).contains(&self.token_key.len()) {
            return refuse("token_key", format!("it is shorter than {MIN_TOKEN_KEY} bytes"));
        }
        if self.token_key.is_empty() && !self.api_keys.is_empty() {
            return refuse("api_keys", "they are of no use without a token_key".to_owned());
        }
        for ApiKey { name, key, symbols } in &self.api_keys {
            if key.len() < MIN_API_KEY {
                let fault = format!("the key of {name:?} is shorter than {MIN_API_KEY} bytes");
                return refuse("api_keys", fault);
            }
            if let Err(text) = Permit::parse(name, symbols) {
                let fault = format!("{text:?}, of {name:?}, is neither a symbol nor a wildcard");
                return refuse("api_keys", fault);
            }
        }
        let keys: HashSet<_> = self.api_keys.iter().map(|api_key| &api_key.key).collect();
        if keys.len() < self.api_keys.len() {
            return refuse("api_keys", "two of them share a key".to_owned());
        }
        Ok(())
    }

    pub(crate) fn coalesce(&self) -> Duration {
        Duration::from_millis(self.coalesce_ms)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_secs)
    }

    /// Validated to be at most an hour.
    pub(crate) fn token_lifetime(&self) -> SignedDuration {
        SignedDuration::from_secs(self.token_ttl_secs.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_key(key: &str) -> ApiKey {
        ApiKey { name: "desk".into(), key: key.into(), symbols: vec!["*".into()] }
    }

    #[test]
    fn a_useless_value_is_named_as_it_is_written() {
        let default = WebSocketConfig::default;
        assert_eq!(default().validate(), Ok(()));
        for (config, text) in [
            (
                WebSocketConfig { queue_frames: 0, ..default() },
                "provide.websocket.queue_frames: 0 is too few; at least 1",
            ),
            (
                WebSocketConfig { heartbeat_secs: 0, ..default() },
                "provide.websocket.heartbeat_secs: 0 is not between 1 and 3600",
            ),
            (
                WebSocketConfig { public_url: "http://x/ws".into(), ..default() },
                "provide.websocket.public_url: \"http://x/ws\" does not begin with ws:// or wss://",
            ),
            (
                WebSocketConfig { allowed_origins: vec!["app.example".into()], ..default() },
                "provide.websocket.allowed_origins: \"app.example\" is not an origin such as \
                 https://app.example.com",
            ),
            (
                WebSocketConfig { token_key: "x".into(), ..default() },
                "provide.websocket.token_key: it is shorter than 32 bytes",
            ),
            (
                WebSocketConfig { api_keys: vec![api_key("long-enough-to-be-one")], ..default() },
                "provide.websocket.api_keys: they are of no use without a token_key",
            ),
            (
                WebSocketConfig {
                    token_key: "x".repeat(32),
                    api_keys: vec![api_key("hunter2")],
                    ..default()
                },
                "provide.websocket.api_keys: the key of \"desk\" is shorter than 16 bytes",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), text);
        }
    }
}
