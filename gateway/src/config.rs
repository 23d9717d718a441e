//! What an operator can set.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration of the gateway: the table `gateway`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address and port that the gateway listens on.
    pub listen: String,
    /// How many requests a second one client address may make in the long run; 0 is no limit. An
    /// IPv6 client is its /64 network.
    pub requests_per_second: u32,
    /// How many requests one client address may make at once.
    pub burst: u32,
    /// How many WebSockets and event streams one client address may keep open here at once; 0 is no limit. An IPv6
    /// client is its /64 network.
    pub connections_per_client: u32,
    /// Addresses of reverse proxies in front of the gateway, whose `X-Forwarded-*` headers are
    /// believed; an empty list believes nobody's.
    pub trusted_proxies: Vec<IpAddr>,
    /// How answers are kept for the next caller.
    pub cache: CacheConfig,
    /// How long an instance may take to begin its answer, in milliseconds.
    pub upstream_timeout_ms: u64,
}

/// How answers are kept for the next caller: the table `gateway.cache`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// How long an answer is kept, in milliseconds; 0 keeps none.
    pub ttl_ms: u64,
    /// How many answers are kept at most.
    pub max_entries: u64,
    /// The largest answer that is kept, in bytes; a larger one is passed on as it comes.
    pub max_body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            requests_per_second: 50,
            burst: 100,
            connections_per_client: 1_000,
            trusted_proxies: Vec::new(),
            cache: CacheConfig::default(),
            upstream_timeout_ms: 5_000,
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { ttl_ms: 500, max_entries: 1_000, max_body_bytes: 65_536 }
    }
}

/// A value that cannot be used, by the name its user knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct ConfigError {
    key: &'static str,
    fault: String,
}

impl Config {
    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, fault: String| Err(ConfigError { key, fault });
        let port = self.listen.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            let fault = format!("must be an address and a port, not {:?}", self.listen);
            return refuse("gateway.listen", fault);
        }
        if self.requests_per_second > 0 && self.burst == 0 {
            return refuse("gateway.burst", "must be at least 1 where there is a limit".into());
        }
        if self.upstream_timeout_ms == 0 {
            return refuse("gateway.upstream_timeout_ms", "must be at least 1".into());
        }
        if self.cache.ttl_ms > 0 && self.cache.max_entries == 0 {
            return refuse("gateway.cache.max_entries", "must be at least 1 to keep any".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_fault_is_named_as_the_user_writes_the_key() {
        let fault = |config: Config| config.validate().unwrap_err().to_string();
        assert_eq!(
            fault(Config { listen: "8080".into(), ..Config::default() }),
            r#"gateway.listen: must be an address and a port, not "8080""#
        );
        assert!(fault(Config { burst: 0, ..Config::default() }).starts_with("gateway.burst: "));
        let cache = CacheConfig { max_entries: 0, ..CacheConfig::default() };
        assert!(
            fault(Config { cache, ..Config::default() }).starts_with("gateway.cache.max_entries: ")
        );
    }
}
