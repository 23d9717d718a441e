//! Web pages that prices are read from: declared once, fetched by `ingest`, read by `process`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NumberFormat;

/// A web page with prices, and where on it they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HtmlSite {
    /// The name of the site: its source is `html:<name>`.
    pub name: String,
    /// The page.
    pub url: String,
    /// How long to wait between two fetches, in seconds.
    #[serde(default = "default_interval_secs")]
    pub interval_secs: u64,
    /// CSS selector of the elements that hold one symbol each.
    pub rows: String,
    /// Where in a row the symbol stands.
    pub symbol: HtmlField,
    /// Where in a row the price stands.
    pub price: HtmlField,
    /// The currency of the prices: an ISO 4217 code.
    pub currency: String,
    /// What separates the whole number from the fraction: `.` or `,`; the other one, white space
    /// and apostrophes are taken as grouping. With `auto` the numbers of the page say it, and one that
    /// can be read in two ways is rejected where there is no other.
    #[serde(default)]
    pub decimal_separator: NumberFormat,
}

/// Where in a row of a page a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HtmlField {
    /// CSS selector within the row; empty is the row itself.
    #[serde(default)]
    pub select: String,
    /// The attribute that holds the value; empty is the text.
    #[serde(default)]
    pub attribute: String,
}

fn default_interval_secs() -> u64 {
    60
}
