//! The message ids of polled pages, which carry no identity of their own.

use std::collections::HashMap;

use jiff::Timestamp;
use schemas::{MANY_SYMBOLS, Source, Symbol};
use sha2::{Digest, Sha256};

/// The message id of a page, `<source>:<symbol or _>:<slot>:<hash>`.
///
/// The slot is the polling interval that the page was received in. So a page that changes and
/// changes back is published three times, and two instances that fetch the same page in the
/// same slot publish it once.
pub(super) fn id(
    source: &Source,
    symbol: Option<&Symbol>,
    received_at: Timestamp,
    interval_secs: u64,
    hash: &str,
) -> String {
    let symbol = symbol.map_or(MANY_SYMBOLS.into(), Symbol::token);
    let interval = i64::try_from(interval_secs).unwrap_or(i64::MAX);
    let slot = received_at.as_second().div_euclid(interval);
    format!("{source}:{symbol}:{slot}:{hash}")
}

/// The hash in an [`id`].
pub(super) fn hash_of(id: &str) -> Option<&str> {
    id.rsplit_once(':').map(|(_, hash)| hash)
}

/// The last page of each symbol, by its hash.
pub(in crate::sources) struct Pages {
    source: Source,
    interval_secs: u64,
    last: HashMap<String, String>,
}

impl Pages {
    /// `resume` is the id of the newest page that was published.
    pub(in crate::sources) fn new(
        source: &Source,
        interval_secs: u64,
        resume: Option<&str>,
    ) -> Self {
        let last = resume
            .and_then(|id| id.strip_prefix(source.as_str())?.strip_prefix(':'))
            .and_then(|rest| {
                let mut parts = rest.split(':');
                let (symbol, _slot, hash) = (parts.next()?, parts.next()?, parts.next()?);
                Some((symbol.to_owned(), hash.to_owned()))
            })
            .into_iter()
            .collect();
        Self { source: source.clone(), interval_secs, last }
    }

    /// The [`id`] of a page; `None` where it is the same as the last one.
    pub(in crate::sources) fn id(
        &mut self,
        symbol: Option<&Symbol>,
        received_at: Timestamp,
        body: &[u8],
    ) -> Option<String> {
        let token = symbol.map_or(MANY_SYMBOLS.into(), Symbol::token);
        let hash = short_hash(body);
        if self.last.get(&*token) == Some(&hash) {
            return None;
        }
        let id = id(&self.source, symbol, received_at, self.interval_secs, &hash);
        self.last.insert(token.into_owned(), hash);
        Some(id)
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of the bytes.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(resume: Option<&str>) -> Pages {
        Pages::new(&Source::new("html:shop").unwrap(), 60, resume)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_page_that_changes_back_is_three_pages() {
        let mut pages = pages(None);
        let a = pages.id(None, at(600), b"A").unwrap();
        assert_eq!(a, "html:shop:_:10:559aead08264d579");
        assert_eq!(pages.id(None, at(660), b"A"), None);
        let b = pages.id(None, at(720), b"B").unwrap();
        let again = pages.id(None, at(780), b"A").unwrap();
        assert!(a != b && b != again && a != again);
    }

    #[test]
    fn two_instances_name_the_same_page_of_a_slot_alike() {
        let id = |second| pages(None).id(None, at(second), b"A").unwrap();
        assert_eq!(id(600), id(659));
        assert_ne!(id(600), id(660));
    }

    #[test]
    fn symbols_are_apart() {
        let symbol = |name| Symbol::new(name).unwrap();
        let mut pages = pages(None);
        let a = pages.id(Some(&symbol("A:B")), at(0), b"A").unwrap();
        assert_eq!(a, "html:shop:A=3AB:0:559aead08264d579");
        assert!(pages.id(Some(&symbol("_")), at(0), b"A").is_some());
        assert!(pages.id(None, at(0), b"A").is_some());
        assert_eq!(pages.id(Some(&symbol("A:B")), at(60), b"A"), None);
    }

    #[test]
    fn after_a_restart_the_last_page_is_known() {
        let id = pages(None).id(None, at(600), b"A").unwrap();
        assert_eq!(pages(Some(&id)).id(None, at(900), b"A"), None);
        assert!(pages(Some(&id)).id(None, at(900), b"B").is_some());
        assert!(pages(Some("sim:1:2:3")).id(None, at(900), b"A").is_some());
    }
}
