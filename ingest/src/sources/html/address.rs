//! The addresses of a site's pages.

use reqwest::Url;
use schemas::{HtmlSite, Symbol};
use service::outbound;

use crate::config::{self, ConfigError};

/// The address of a page, or of one page for each symbol.
#[derive(Debug)]
pub(super) enum Address {
    /// One page.
    Page(Url),
    /// One for each symbol, which stands where the pattern says.
    PerSymbol { pattern: String, example: Url },
}

impl Address {
    /// As configured; `key` is that of the site's address.
    pub(super) fn new(key: &str, site: &HtmlSite) -> Result<Self, ConfigError> {
        let parse = |text: &str| config::url(key, text, &["http", "https"]);
        let fault = |fault: &str| Err(ConfigError::new(key, fault));
        let pattern = site.url.trim();
        if !site.has_page_per_symbol() {
            let url = parse(pattern)?;
            return match is_private(&url) && !site.allow_private {
                true => fault(PRIVATE),
                false => Ok(Self::Page(url)),
            };
        }
        let (one, other) = (parse(&fill(pattern, "a"))?, parse(&fill(pattern, "b"))?);
        if one.origin() != other.origin() || one.authority() != other.authority() {
            return fault("{symbol} may stand in its path and its query, not in its host");
        }
        if one.path() == other.path() && one.query() == other.query() {
            return fault("{symbol} may stand in its path and its query, not behind a #");
        }
        if is_private(&one) && !site.allow_private {
            return fault(PRIVATE);
        }
        Ok(Self::PerSymbol { pattern: pattern.to_owned(), example: one })
    }

    /// The address of a symbol's page; where all symbols share one, of that. Without a symbol it is an
    /// address on the same host.
    pub(super) fn of(&self, symbol: Option<&Symbol>) -> Url {
        match (self, symbol) {
            (Self::Page(url), _) => url.clone(),
            (Self::PerSymbol { pattern, example }, symbol) => symbol
                .and_then(|symbol| Url::parse(&fill(pattern, &encoded(symbol.as_str()))).ok())
                .unwrap_or_else(|| example.clone()),
        }
    }

    /// To be shown: without any secret.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Page(url) => config::shown(url),
            Self::PerSymbol { pattern, .. } => {
                // Filled with what no URL changes, so that it can be found again.
                const MARK: &str = "lizards-symbol";
                let shown = Url::parse(&fill(pattern, MARK)).map(|url| config::shown(&url));
                shown.unwrap_or_default().replace(MARK, HtmlSite::PLACE)
            }
        }
    }
}

const PRIVATE: &str = "its host is a private address; say allow_private = true if you mean it";

fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse().is_ok_and(|address| !outbound::is_public(address))
}

fn fill(pattern: &str, symbol: &str) -> String {
    pattern.replace(HtmlSite::PLACE, symbol)
}

/// Percent-encoded, but for the characters that RFC 3986 (2.3) leaves unreserved.
fn encoded(symbol: &str) -> String {
    let mut text = String::with_capacity(symbol.len());
    for byte in symbol.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str, allow_private: bool) -> Result<Address, ConfigError> {
        Address::new("url", &HtmlSite { url: url.into(), allow_private, ..HtmlSite::default() })
    }

    fn fault(url: &str) -> String {
        address(url, false).unwrap_err().to_string()
    }

    #[test]
    fn a_symbol_stands_in_the_address_of_its_page_whatever_it_is() {
        let address = address("https://example.com/q/{symbol}/?s={symbol}&k=1", false).unwrap();
        for (symbol, url) in [
            ("AAPL", "https://example.com/q/AAPL/?s=AAPL&k=1"),
            ("BTC/USD", "https://example.com/q/BTC%2FUSD/?s=BTC%2FUSD&k=1"),
            ("^GSPC", "https://example.com/q/%5EGSPC/?s=%5EGSPC&k=1"),
            ("A&B#C?", "https://example.com/q/A%26B%23C%3F/?s=A%26B%23C%3F&k=1"),
            ("Ü", "https://example.com/q/%C3%9C/?s=%C3%9C&k=1"),
        ] {
            assert_eq!(address.of(Some(&Symbol::new(symbol).unwrap())).as_str(), url);
        }
        assert_eq!(address.shown(), "https://example.com/q/{symbol}/?***");
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why() {
        assert_eq!(
            fault("https://{symbol}.example.com/"),
            "ingest.url: {symbol} may stand in its path and its query, not in its host"
        );
        assert_eq!(
            fault("https://example.com/#{symbol}"),
            "ingest.url: {symbol} may stand in its path and its query, not behind a #"
        );
        assert!(fault("https://a:{symbol}@example.com/").contains("not in its host"));
        for url in ["http://127.0.0.1/", "http://[::1]/{symbol}", "http://0x7f.1/", "http://10.1/"]
        {
            assert!(fault(url).contains("allow_private = true"), "{url}");
            assert!(address(url, true).is_ok(), "{url}");
        }
    }
}
