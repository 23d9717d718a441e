//! Requests to addresses that somebody else has a say in: a scraped page that redirects, a webhook.
//! They reach public addresses only, so that nobody makes us read what is on this machine or in its
//! network (server-side request forgery).
//!
//! The address is judged where it is used: of a name, what the resolver gives for the connection that
//! is about to be made, so that a name which means something else a moment later gains nothing (DNS
//! rebinding); of an address in a URL, before the request; and both again at every redirect. No proxy
//! is used, because a proxy would resolve the name itself.

mod address;

use std::{collections::BTreeSet, error::Error, net::SocketAddr, sync::Arc};

use reqwest::{
    Client, ClientBuilder, Method, RequestBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::{Attempt, Policy},
};

pub use address::is_public;

/// An address that is not public, and was not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is a private address, or none that anybody may be reached at")]
pub struct PrivateAddress {
    /// The host, as the URL names it.
    pub host: String,
}

impl PrivateAddress {
    /// Whether this is why a request failed.
    pub fn is_cause_of(error: &reqwest::Error) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// An HTTP client that reaches public addresses, and private ones of the hosts it was told to trust.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: Client,
    trusted: Arc<BTreeSet<String>>,
}

impl Outbound {
    /// A client that also reaches the `trusted` hosts, named as in their URLs, wherever they are, and
    /// that follows so many redirects one after the other; the next one is the answer as it came.
    pub fn new(
        builder: ClientBuilder,
        trusted: impl IntoIterator<Item = String>,
        redirects: usize,
    ) -> reqwest::Result<Self> {
        let trusted: Arc<BTreeSet<String>> = Arc::new(trusted.into_iter().collect());
        let hosts = Arc::clone(&trusted);
        let policy = Policy::custom(move |attempt: Attempt<'_>| {
            // The first of the previous ones is the request itself.
            if attempt.previous().len() > redirects {
                return attempt.stop();
            }
            match check(attempt.url(), &hosts) {
                Ok(()) => attempt.follow(),
                Err(private) => attempt.error(private),
            }
        });
        let resolver = PublicNames { trusted: Arc::clone(&trusted) };
        let client =
            builder.no_proxy().redirect(policy).dns_resolver(Arc::new(resolver)).build()?;
        Ok(Self { client, trusted })
    }

    /// A request, unless the URL itself has a private address for its host.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, PrivateAddress> {
        check(&url, &self.trusted)?;
        Ok(self.client.request(method, url))
    }
}

/// Judges an address that is written in a URL, which no resolver sees.
fn check(url: &Url, trusted: &BTreeSet<String>) -> Result<(), PrivateAddress> {
    let host = url.host_str().unwrap_or_default();
    // A URL has its addresses in their usual form, whatever was typed, and IPv6 in brackets.
    let address = host.trim_matches(['[', ']']).parse();
    if trusted.contains(host) || !address.is_ok_and(|address| !is_public(address)) {
        Ok(())
    } else {
        Err(PrivateAddress { host: host.to_owned() })
    }
}

/// A host cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It has none but private addresses.
    #[error(transparent)]
    Private(#[from] PrivateAddress),
    /// It has none.
    #[error(transparent)]
    Unknown(#[from] std::io::Error),
}

/// The addresses to connect to for a host, a name or an address as it stands in a URL: all of them
/// where it is trusted, else the public ones.
pub async fn addresses(
    host: &str,
    port: u16,
    trusted: bool,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let bare = host.trim_matches(['[', ']']);
    let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, port)).await?.collect();
    let is_usable = |address: &SocketAddr| trusted || is_public(address.ip());
    let usable: Vec<SocketAddr> = found.into_iter().filter(is_usable).collect();
    if usable.is_empty() {
        return Err(PrivateAddress { host: host.to_owned() }.into());
    }
    Ok(usable)
}

/// The resolver of the system, without the private addresses.
struct PublicNames {
    trusted: Arc<BTreeSet<String>>,
}

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let trusted = self.trusted.contains(name.as_str());
        Box::pin(async move {
            // The port is put in by the client.
            match addresses(name.as_str(), 0, trusted).await {
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(ResolveError::Private(private)) => Err(private.into()),
                Err(ResolveError::Unknown(fault)) => Err(fault.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
