//! Which decoder reads a payload: the one that its header names, or that its source uses, or else the
//! one that makes most ticks of it.

use schemas::{Format, RawTick, Source};

use super::{Refusal, payload::Payload, request::Request};
use crate::decode::Decoder;

/// The source of records of which nobody says whose they are: they are read as those of whoever has no
/// `[[records]]`.
const RECORDS: &str = "push:dry-run";

/// What the sources of a kind deliver, most usual first.
const KINDS: [(&str, &[Format]); 13] = [
    ("push", &[Format::Ndjson, Format::Csv]),
    ("sim", &[Format::Sim]),
    ("coinbase", &[Format::CoinbaseMatch]),
    ("kraken", &[Format::KrakenTrade]),
    ("binance", &[Format::BinanceTrade]),
    ("alpaca", &[Format::AlpacaJson, Format::AlpacaMsgpack]),
    ("finnhub", &[Format::FinnhubTrades, Format::FinnhubQuote]),
    ("twelvedata", &[Format::TwelveDataQuote, Format::TwelveDataSeries]),
    ("yahoo", &[Format::YahooChart]),
    ("alphavantage", &[Format::AlphaVantageQuote, Format::AlphaVantageSeries]),
    ("stooq", &[Format::StooqQuotes]),
    ("file", &[Format::CsvRow, Format::Ndjson]),
    ("html", &[Format::Html]),
];

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    Json,
    Csv,
    MessagePack,
    Html,
}

/// Reads a payload.
pub(super) fn read(request: Request, decoder: &Decoder) -> Result<Payload, Refusal> {
    let mut formats = candidates(&request)?;
    let notation = Notation::of(&request);
    if formats.iter().any(|format| Notation::written(*format) == notation) {
        formats.retain(|format| Notation::written(*format) == notation);
    }
    let detected = formats.len() > 1 || (request.source.is_none() && request.format.is_none());
    let mut best: Option<(usize, Payload)> = None;
    for format in formats {
        let payload = Payload::read(envelope(&request, format)?, decoder);
        let readable = payload.readable().count();
        // Of those that make none, and of equals, the first.
        if best.as_ref().is_none_or(|(most, _)| readable > *most) {
            best = Some((readable, payload));
        }
    }
    // There is a candidate, so there is a best.
    best.map(|(_, payload)| Payload { detected, ..payload }).ok_or(Refusal::Failed)
}

/// What it may be.
fn candidates(request: &Request) -> Result<Vec<Format>, Refusal> {
    if let Some(format) = request.format {
        return Ok(vec![format]);
    }
    if let Some(source) = &request.source {
        let kind = KINDS.iter().find(|(kind, _)| *kind == source.kind());
        return kind.map(|(_, formats)| formats.to_vec()).ok_or_else(|| {
            let kinds = KINDS.map(|(kind, _)| kind).join(", ");
            let fault = format!("{source:?} is of no kind that is known ({kinds})");
            Refusal::invalid("lizards-source", format!("{fault}; say lizards-format, too"))
        });
    }
    if request.columns.is_some() {
        return Ok(vec![Format::CsvRow]);
    }
    // Each that says by itself what it is about; records first.
    let mut formats = vec![Format::Ndjson, Format::Csv];
    for format in KINDS.iter().flat_map(|(_, formats)| formats.iter().copied()) {
        let says = match format {
            Format::CsvRow | Format::Html => false,
            Format::FinnhubQuote => request.symbol.is_some(),
            _ => true,
        };
        if says && !formats.contains(&format) {
            formats.push(format);
        }
    }
    Ok(formats)
}

/// The payload as a message of `TICKS_RAW` in that format.
fn envelope(request: &Request, format: Format) -> Result<RawTick, Refusal> {
    if format == Format::CsvRow && request.columns.is_none() {
        let fault = "is missing: of a file each row is a payload, whose columns are named here";
        return Err(Refusal::invalid("lizards-columns", fault));
    }
    let source = match &request.source {
        Some(source) => source.clone(),
        None => default_source(format)?,
    };
    Ok(RawTick {
        id: request.id.clone(),
        source,
        symbol: request.symbol.clone(),
        received_at: request.received_at,
        content_type: request.content_type.clone().unwrap_or_default(),
        format,
        columns: request.columns.clone(),
        body: request.body.clone(),
    })
}

/// The source that delivers the format.
fn default_source(format: Format) -> Result<Source, Refusal> {
    let name = match format {
        Format::Ndjson | Format::Csv => RECORDS,
        Format::Html => {
            let fault = "is missing: how a page is read is configured for its source";
            return Err(Refusal::invalid("lizards-source", fault));
        }
        _ => {
            KINDS.iter().find(|(_, formats)| formats.contains(&format)).map_or("", |(kind, _)| kind)
        }
    };
    Source::new(name).map_err(|_| Refusal::Failed)
}

impl Notation {
    /// What a body is in, as its media type says, or else as it looks.
    fn of(request: &Request) -> Self {
        let media_type = request.content_type.as_deref().unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let says = |word: &str| essence.contains(word);
        match request.body.trim_ascii().first() {
            _ if says("csv") => Self::Csv,
            _ if says("json") => Self::Json,
            _ if says("msgpack") => Self::MessagePack,
            _ if says("html") => Self::Html,
            Some(b'{' | b'[') => Self::Json,
            Some(b'<') => Self::Html,
            _ if std::str::from_utf8(&request.body).is_err() => Self::MessagePack,
            _ => Self::Csv,
        }
    }

    fn written(format: Format) -> Self {
        match format {
            Format::Csv | Format::CsvRow | Format::StooqQuotes => Self::Csv,
            Format::AlpacaMsgpack => Self::MessagePack,
            Format::Html => Self::Html,
            _ => Self::Json,
        }
    }
}
