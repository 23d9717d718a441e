//! Web pages that prices are read from: declared once, fetched by `ingest`, read by `process`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NumberFormat;

/// A web page with prices, or one page for each symbol, and where on it they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HtmlSite {
    /// The name of the site: its source is `html:<name>`.
    pub name: String,
    /// The page. With `{symbol}` in its path or query it stands for many pages, one for each of
    /// `symbols`.
    pub url: String,
    /// The symbols whose pages are fetched, where `url` has a `{symbol}`.
    pub symbols: Vec<String>,
    /// How long to wait between two fetches of a page, in seconds.
    pub interval_secs: u64,
    /// How long to leave a host alone between two requests, in milliseconds, whichever of its pages
    /// they are for; a longer `Crawl-delay` of its robots.txt counts.
    pub delay_ms: u64,
    /// How its owner can reach you: an address of a page or of mail, told in the `User-Agent`.
    pub contact: String,
    /// Whether the page needs JavaScript: a browser loads it then, which the cargo feature `browser`
    /// brings, and what its scripts made of it is read.
    pub render: bool,
    /// CSS selector of an element that is there when a page with JavaScript is ready; empty: when it
    /// has loaded.
    pub wait_for: String,
    /// How long it may take until a page with JavaScript is ready, in seconds.
    pub timeout_secs: u64,
    /// The media types that a page may have; one without any is taken, too.
    pub content_types: Vec<String>,
    /// Whether the host of `url` may be on this machine or in its network. No other such host is
    /// ever asked, wherever a redirect leads.
    pub allow_private: bool,
    /// CSS selector of the elements that hold one quote each; empty where the page is one quote.
    pub rows: String,
    /// Where in a row the symbol stands. Where `url` has a `{symbol}` it may be left out; if it is
    /// there, a page of another symbol is rejected.
    pub symbol: Option<HtmlField>,
    /// Where in a row the price stands.
    pub price: HtmlField,
    /// Where in a row the size stands, if there is one.
    pub size: Option<HtmlField>,
    /// Where in a row the time of the price stands, if there is one; else it is when the page was
    /// received.
    pub time: Option<HtmlField>,
    /// How that time is written: `rfc3339`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, or a
    /// pattern as of strftime, such as `%d.%m.%Y %H:%M:%S`.
    pub time_format: String,
    /// The time zone of a pattern without one, such as `Europe/Berlin`. A time that the clocks there
    /// showed never or twice, when they were set, is rejected.
    pub time_zone: String,
    /// The currency of the prices: an ISO 4217 code.
    pub currency: String,
    /// Where in a row the code of its currency stands; where there is none, it is `currency`.
    pub currency_field: Option<HtmlField>,
    /// What separates the whole number from the fraction: `.` or `,`; the other one, white space
    /// and apostrophes are taken as grouping. With `auto` the numbers of the page say it, and one that
    /// can be read in two ways is rejected where there is no other.
    pub decimal_separator: NumberFormat,
}

/// Where in a row of a page a value stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HtmlField {
    /// CSS selector within the row; empty is the row itself.
    pub select: String,
    /// The attribute that holds the value; empty is the text.
    pub attribute: String,
    /// A text that the value stands after, such as `/quote/` in a link; there is no value without it.
    pub after: String,
    /// A text that the value stands before; where it is not there, the value goes to the end.
    pub before: String,
}

impl HtmlSite {
    /// What stands for a symbol in `url`.
    pub const PLACE: &str = "{symbol}";

    /// Whether there is a page for each symbol.
    pub fn has_page_per_symbol(&self) -> bool {
        self.url.contains(Self::PLACE)
    }
}

impl Default for HtmlSite {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            symbols: Vec::new(),
            interval_secs: 60,
            delay_ms: 1_000,
            contact: String::new(),
            render: false,
            wait_for: String::new(),
            timeout_secs: 20,
            content_types: vec!["text/html".to_owned(), "application/xhtml+xml".to_owned()],
            allow_private: false,
            rows: String::new(),
            symbol: None,
            price: HtmlField::default(),
            size: None,
            time: None,
            time_format: "rfc3339".to_owned(),
            time_zone: String::new(),
            currency: String::new(),
            currency_field: None,
            decimal_separator: NumberFormat::Auto,
        }
    }
}
