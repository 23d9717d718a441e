//! The configuration of the role.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, store::StoreConfig};

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
    /// The address of `/ws` that `POST /session` gives out, such as `wss://prices.example.com/ws`.
    /// Empty: the address under which the caller reached us.
    pub public_url: String,
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
        ];
        for (key, value, least) in counts {
            if value < least {
                let fault = format!("{value} is too few; at least {least}");
                return Err(ConfigError { key, fault });
            }
        }
        if !(1..=3_600).contains(&self.heartbeat_secs) {
            let fault = format!("{} is not between 1 and 3600", self.heartbeat_secs);
            return Err(ConfigError { key: "heartbeat_secs", fault });
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
        Ok(())
    }

    pub(crate) fn coalesce(&self) -> Duration {
        Duration::from_millis(self.coalesce_ms)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), text);
        }
    }
}
