//! How many events a payload has, counted in a plainer way than its decoder does.

use std::ops::RangeInclusive;

use schemas::Format;
use serde_json::Value;

/// Of a payload that is not rejected as a whole.
pub(crate) fn of(format: Format, body: &[u8]) -> RangeInclusive<usize> {
    let exactly = |events: Option<usize>| events.map_or(0..=usize::MAX, |events| events..=events);
    match format {
        Format::Sim
        | Format::CsvRow
        | Format::AlphaVantageQuote
        | Format::FinnhubQuote
        | Format::CoinbaseMatch
        | Format::BinanceTrade => 1..=1,
        Format::KrakenTrade | Format::FinnhubTrades => exactly(length(body, "/data")),
        Format::AlpacaJson => exactly(length(body, "")),
        Format::TwelveDataSeries if has(body, "values") => exactly(length(body, "/values")),
        Format::Csv | Format::StooqQuotes => exactly(lines_after_the_header(body)),
        Format::Ndjson => exactly(lines_with_something(body)),
        // A tag that closes what is not open makes one, too.
        Format::Html => 1..=tags(body, b"<p") + tags(body, b"</p"),
        Format::AlphaVantageSeries
        | Format::YahooChart
        | Format::TwelveDataQuote
        | Format::TwelveDataSeries
        | Format::AlpacaMsgpack => 0..=body.len(),
    }
}

fn has(body: &[u8], field: &str) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|json| json.get(field).is_some())
}

/// Of the array at that pointer. Nothing where it is too deep for this to read it.
fn length(body: &[u8], pointer: &str) -> Option<usize> {
    let json = serde_json::from_slice::<Value>(body).ok()?;
    Some(json.pointer(pointer)?.as_array()?.len())
}

/// A byte order mark is no line, nor part of one, and nothing to count with.
const MARK: &[u8] = b"\xEF\xBB\xBF";

fn lines_with_something(body: &[u8]) -> Option<usize> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    (!body.starts_with(MARK)).then(|| lines.count())
}

/// Nothing where a quote may hide the end of a line.
fn lines_after_the_header(body: &[u8]) -> Option<usize> {
    let lines = body.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| !line.is_empty());
    (!body.contains(&b'"') && !body.starts_with(MARK)).then(|| lines.count().saturating_sub(1))
}

fn tags(body: &[u8], tag: &[u8]) -> usize {
    body.windows(tag.len()).filter(|found| found.eq_ignore_ascii_case(tag)).count()
}
