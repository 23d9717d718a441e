//! The headers of a forwarded request: what concerns one connection stays on it (RFC 9110,
//! section 7.6.1), and the instance is told whom it answers.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// The client behind it, where the peer is a proxy that is believed.
    pub(crate) client: IpAddr,
    /// Whether the peer is a proxy that is believed.
    pub(crate) is_proxy: bool,
}

impl Sender {
    /// The client is the last address of `X-Forwarded-For` that is not itself a trusted proxy:
    /// what stands before it is the client's own claim.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> Self {
        let peer = peer.to_canonical();
        let is_proxy = trusted.contains(&peer);
        let mut client = peer;
        if is_proxy {
            let chain: Vec<&str> = headers
                .get_all(FORWARDED_FOR)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .collect();
            for hop in chain.iter().rev() {
                let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
                client = address.to_canonical();
                if !trusted.contains(&client) {
                    break;
                }
            }
        }
        Self { peer, client, is_proxy }
    }
}

/// The headers to send on to an instance.
pub(crate) fn toward_upstream(headers: &HeaderMap, sender: Sender) -> HeaderMap {
    let mut forwarded = headers.clone();
    strip_hop_by_hop(&mut forwarded);
    let host = forwarded.remove(header::HOST);
    // The body is sent whole, so that its length is known anew; 100 Continue was ours to answer.
    forwarded.remove(header::CONTENT_LENGTH);
    forwarded.remove(header::EXPECT);
    if !sender.is_proxy {
        for name in [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, header::FORWARDED] {
            forwarded.remove(name);
        }
    }
    if let Ok(peer) = HeaderValue::try_from(sender.peer.to_string()) {
        forwarded.append(FORWARDED_FOR, peer);
    }
    if let (Some(host), false) = (host, forwarded.contains_key(FORWARDED_HOST)) {
        forwarded.insert(FORWARDED_HOST, host);
    }
    if !forwarded.contains_key(FORWARDED_PROTO) {
        forwarded.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    forwarded
}

/// Removes what concerns one connection only, and what `Connection` says does.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_strangers_claims_are_not_believed() {
        let claims = headers(&[
            ("host", "prices.example"),
            ("x-forwarded-for", "198.51.100.9"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
        ]);
        let sender = Sender::of(address("192.0.2.7"), &claims, &[]);
        assert_eq!(sender.client, address("192.0.2.7"));
        let forwarded = toward_upstream(&claims, sender);
        assert_eq!(forwarded["x-forwarded-for"], "192.0.2.7");
        assert_eq!(forwarded["x-forwarded-host"], "prices.example");
        assert_eq!(forwarded["x-forwarded-proto"], "http");
        assert!(!forwarded.contains_key("host"));
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        let claims = headers(&[
            ("host", "10.0.0.5:8080"),
            ("x-forwarded-for", "203.0.113.1, 198.51.100.9, 10.0.0.2"),
            ("x-forwarded-host", "prices.example"),
            ("x-forwarded-proto", "https"),
        ]);
        let trusted = [address("10.0.0.1"), address("10.0.0.2")];
        let sender = Sender::of(address("10.0.0.1"), &claims, &trusted);
        assert_eq!(sender.client, address("198.51.100.9"));
        let forwarded = toward_upstream(&claims, sender);
        assert_eq!(forwarded["x-forwarded-host"], "prices.example");
        assert_eq!(forwarded["x-forwarded-proto"], "https");
        assert_eq!(forwarded.get_all("x-forwarded-for").iter().next_back().unwrap(), "10.0.0.1");
    }

    #[test]
    fn what_concerns_one_connection_stays_on_it() {
        let mut sent = headers(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("keep-alive", "timeout=5"),
            ("x-secret-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]);
        strip_hop_by_hop(&mut sent);
        assert_eq!(sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["traceparent"]);
    }
}
