//! From the bytes of a payload to what happened: one pure, total decoder per format.
//!
//! Every event in a payload becomes exactly one [`Event`], in the payload's order; a payload in
//! which no event can be told apart is one rejection. A decoder sees nothing but the payload and
//! its settings, so the same payload always gives the same events: the exactness of the
//! [`engine`](crate::engine) is built on that.

mod alpaca;
mod alphavantage;
mod bars;
mod binance;
mod coinbase;
mod columns;
mod csv_row;
mod finnhub;
mod finnhub_quote;
mod html;
mod json;
mod kraken;
mod number;
mod pair;
mod records;
mod sim;
mod stooq;
mod text;
mod twelvedata;
mod yahoo;

use std::{
    collections::HashMap,
    fmt::{self, Display},
    panic::{self, AssertUnwindSafe},
};

use jiff::Timestamp;
use schemas::{
    Decimal, Format, HtmlSite, RawTick, Reason, Records, Rejection, Source, Symbol, TickKind,
};

use crate::Error;

use html::Site;
use records::Mapping;

/// How many events one payload may hold; one with more is rejected as a whole.
const MAX_EVENTS: usize = 20_000;

/// What happened, as its payload tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// What tells the event from all others of its source and symbol, where its provider says; then
    /// it is one tick in however many payloads it comes.
    pub(crate) identity: Option<String>,
    pub(crate) symbol: Symbol,
    pub(crate) price: Decimal,
    pub(crate) size: Option<Decimal>,
    pub(crate) currency: String,
    pub(crate) exchange: Option<String>,
    pub(crate) kind: TickKind,
    pub(crate) ts: Timestamp,
}

/// One event of a payload: decoded, or why it cannot be.
pub(crate) type Event = Result<Decoded, Rejection>;

/// The decoders with their settings.
pub(crate) struct Decoder {
    /// Of prices whose payload does not say.
    currency: String,
    /// By source.
    sites: HashMap<String, Site>,
    /// By source.
    mappings: HashMap<String, Mapping>,
    /// Of the other sources.
    mapping: Mapping,
    /// What a payload does to the process of a test.
    #[cfg(test)]
    pub(crate) harm: fn(&RawTick),
}

impl Decoder {
    /// Compiles what is configured of web pages and records; a fault is an error that names its key.
    pub(crate) fn new(
        currency: &str,
        sites: &[HtmlSite],
        records: &[Records],
    ) -> Result<Self, Error> {
        let mut compiled = HashMap::with_capacity(sites.len());
        for (index, site) in sites.iter().enumerate() {
            let site_read = Site::compile(index, site)?;
            if compiled.insert(format!("html:{}", site.name), site_read).is_some() {
                return Err(Error::Site {
                    key: format!("html[{index}].name"),
                    fault: format!("{:?} is there twice", site.name),
                });
            }
        }
        let mut mappings = HashMap::with_capacity(records.len());
        for (index, records) in records.iter().enumerate() {
            let mapping = Mapping::compile(index, records, currency)?;
            if mappings.insert(records.source.clone(), mapping).is_some() {
                return Err(Error::Site {
                    key: format!("records[{index}].source"),
                    fault: format!("{:?} is there twice", records.source),
                });
            }
        }
        Ok(Self {
            currency: currency.to_owned(),
            sites: compiled,
            mappings,
            mapping: Mapping::default(currency),
            #[cfg(test)]
            harm: |_| (),
        })
    }

    /// Appends the events of a payload, at least one. A decoder that panics has found a fault of ours:
    /// the payload is rejected, and the next one is decoded.
    pub(crate) fn decode(&self, raw: &RawTick, events: &mut Vec<Event>) {
        #[cfg(test)]
        (self.harm)(raw);
        guarded(events, |events| self.read(raw, events));
    }

    fn read(&self, raw: &RawTick, events: &mut Vec<Event>) {
        match raw.format {
            Format::Sim => events.push(sim::decode(&raw.body, &self.currency)),
            Format::CsvRow => {
                let columns = raw.columns.as_deref();
                events.push(match self.mappings.get(raw.source.as_str()) {
                    Some(mapping) => records::csv_row::decode(&raw.body, columns, mapping),
                    None => csv_row::decode(&raw.body, columns, &self.currency),
                });
            }
            Format::AlphaVantageQuote => {
                let quote = alphavantage::quote::decode;
                events.push(quote(&raw.body, raw.received_at, &self.currency));
            }
            Format::AlphaVantageSeries => {
                alphavantage::series::decode(raw, &self.currency, events);
            }
            Format::YahooChart => yahoo::decode(raw, &self.currency, events),
            Format::FinnhubQuote => events.push(finnhub_quote::decode(raw, &self.currency)),
            Format::TwelveDataQuote => twelvedata::quotes(raw, &self.currency, events),
            Format::TwelveDataSeries => twelvedata::series(raw, &self.currency, events),
            Format::StooqQuotes => stooq::decode(&raw.body, &self.currency, events),
            Format::CoinbaseMatch => events.push(coinbase::decode(&raw.body)),
            Format::BinanceTrade => events.push(binance::decode(&raw.body)),
            Format::AlpacaJson => alpaca::decode_json(&raw.body, events),
            Format::AlpacaMsgpack => alpaca::decode_msgpack(&raw.body, events),
            Format::FinnhubTrades => finnhub::decode(&raw.body, &self.currency, events),
            Format::KrakenTrade => kraken::decode(&raw.body, events),
            Format::Csv => records::csv::decode(&raw.body, self.mapping(&raw.source), events),
            Format::Ndjson => records::ndjson::decode(&raw.body, self.mapping(&raw.source), events),
            Format::Html => match self.sites.get(raw.source.as_str()) {
                Some(site) => site.decode(raw, events),
                None => events.push(Err(Rejection::decode(
                    Reason::Envelope,
                    format!("no site is configured for the source {}", raw.source),
                ))),
            },
        }
    }
}

impl Decoder {
    fn mapping(&self, source: &Source) -> &Mapping {
        self.mappings.get(source.as_str()).unwrap_or(&self.mapping)
    }
}

/// How many bytes the texts of an event take.
pub(crate) fn text_bytes(event: &Event) -> usize {
    match event {
        Ok(event) => {
            let optional = [&event.identity, &event.exchange];
            event.currency.len() + optional.into_iter().flatten().map(String::len).sum::<usize>()
        }
        Err(rejection) => rejection.detail.len(),
    }
}

/// Whatever was decoded before a panic is not trusted.
fn guarded(events: &mut Vec<Event>, decode: impl FnOnce(&mut Vec<Event>)) {
    let before = events.len();
    // Nothing is shared with the decoder but the events, and those are cut.
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| decode(events)));
    if let Err(payload) = decoded {
        let said = payload.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        events.truncate(before);
        let detail = format!("the decoder has a fault: {said}");
        events.push(Err(Rejection::decode(Reason::Poison, detail)));
    }
}

/// The field is not there.
fn missing(field: &str, place: &dyn Display) -> Rejection {
    Rejection::decode(Reason::MissingField, format!("{field}: is missing{place}"))
}

/// The field is there, with a fault.
fn invalid(field: &str, place: &dyn Display, fault: impl Display) -> Rejection {
    Rejection::decode(Reason::InvalidField, format!("{field}: {fault}{place}"))
}

/// More events than a payload may hold.
fn too_many(what: &str) -> Rejection {
    malformed(format!("it has more than {MAX_EVENTS} {what}"))
}

/// Which of several trades of a payload, from 1 on.
struct Nth(usize);

impl Display for Nth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " (trade {})", self.0)
    }
}

/// Not a payload of that format.
fn malformed(fault: impl Into<String>) -> Rejection {
    Rejection::decode(Reason::Malformed, fault)
}

#[cfg(test)]
mod tests;
