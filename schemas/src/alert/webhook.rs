//! Where a webhook may go, and the secret that signs it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The longest address of a webhook, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// The address of a webhook. It may hold secrets: it is for its owner only, and is not shown in
/// errors or logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookUrl(Url);

/// Why an address is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookUrlError {
    /// It is not the address of anything.
    #[error("it is not an absolute URL: {0}")]
    Malformed(String),
    /// Nothing else is posted to.
    #[error("it must begin with https:// or http://")]
    Scheme,
    /// A name and a password would be shown with the address.
    #[error("it may not hold a name or a password")]
    Credentials,
    /// It is longer than an address has to be.
    #[error("it has more than {MAX_URL_BYTES} bytes")]
    TooLong,
}

impl WebhookUrl {
    /// Checks and takes an address.
    pub fn parse(text: &str) -> Result<Self, WebhookUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(WebhookUrlError::TooLong);
        }
        let url =
            Url::parse(text).map_err(|fault| WebhookUrlError::Malformed(fault.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(WebhookUrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookUrlError::Credentials);
        }
        Ok(Self(url))
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The IP address that it names, where it names one in whatever way: `127.1` is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = WebhookUrlError;

    fn try_from(text: String) -> Result<Self, WebhookUrlError> {
        Self::parse(&text)
    }
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> Self {
        url.0.into()
    }
}

/// Shows its origin only.
impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for whoever has to know it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whether an address is one of the public internet, and so nobody's inside: not loopback, not
/// private, not link-local (where clouds have their metadata), nor anything else that the registries
/// of special-purpose addresses name (RFC 6890 and
/// <https://www.iana.org/assignments/iana-ipv4-special-registry/>, and the same for IPv6).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    !(matches!(
        octets,
        // This network, shared address space, protocol assignments, the old 6to4 relays,
        // benchmarking, and all that is reserved.
        [0, ..]
            | [100, 64..=127, ..]
            | [192, 0, 0, _]
            | [192, 88, 99, _]
            | [198, 18..=19, ..]
            | [240..=255, ..]
    ) || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Addresses of IPv4 in another dress: mapped, translated (NAT64), and 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments, Teredo among them, and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast; all else is loopback, unique local, link-local, multicast or reserved.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}
