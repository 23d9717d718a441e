//! Where a webhook may go, asked when it is about to be connected to.
//!
//! Whoever sets a rule chooses the address, and we are perhaps inside a network that he is not: the
//! addresses behind a name are checked where they are looked up for the connection itself, so that a
//! name cannot be public when it is checked and private when it is used (see OWASP, Server-Side
//! Request Forgery Prevention).

use std::{error::Error, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use schemas::alert::is_public;

/// The address is none of the public internet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its address is not of the public internet (process.alerts.allow_private_webhooks)")]
pub(super) struct PrivateAddress;

impl PrivateAddress {
    /// Whether an error, or what is behind it, says so.
    pub(super) fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<PrivateAddress>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Looks names up, and gives only addresses that may be connected to.
pub(super) struct Resolver {
    pub(super) allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(PrivateAddress.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
