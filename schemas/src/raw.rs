//! The raw tick: one provider payload as fetched, and the envelope around it.

use bytes::Bytes;
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};

use crate::{Source, Symbol, headers};

/// How a payload is to be read: which decoder of `process` understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A tick of the simulator, JSON.
    Sim,
    /// One row of a CSV file; its column names are in [`headers::COLUMNS`].
    CsvRow,
    /// The answer of Alpha Vantage's `GLOBAL_QUOTE`, JSON.
    AlphaVantageQuote,
    /// The answer of Alpha Vantage's `TIME_SERIES_INTRADAY` or `TIME_SERIES_DAILY`, JSON.
    AlphaVantageSeries,
    /// The answer of Yahoo Finance's `/v8/finance/chart/{symbol}`, JSON.
    YahooChart,
    /// The answer of Finnhub's `/quote`, JSON; it does not name its symbol.
    FinnhubQuote,
    /// The answer of Twelve Data's `/quote`, JSON.
    TwelveDataQuote,
    /// The answer of Twelve Data's `/time_series`, JSON.
    TwelveDataSeries,
    /// The CSV that Stooq gives of its newest quotes.
    StooqQuotes,
    /// A `match` message of Coinbase's WebSocket feed, JSON.
    CoinbaseMatch,
    /// A message of the channel `trade` of Kraken's WebSocket feed, version 2, JSON.
    KrakenTrade,
    /// A trade of Binance's WebSocket streams, JSON.
    BinanceTrade,
    /// A message of Alpaca's stream of stock trades, JSON.
    AlpacaJson,
    /// A message of Alpaca's stream of stock trades, MessagePack.
    AlpacaMsgpack,
    /// A message of Finnhub's WebSocket feed of trades, JSON.
    FinnhubTrades,
    /// A web page, read by the selectors configured for its site.
    Html,
    /// A CSV file with a header line, read as configured for its source ([`Records`](crate::Records)).
    Csv,
    /// One JSON object a line, read as configured for its source ([`Records`](crate::Records)).
    Ndjson,
}

impl Format {
    /// All formats there are.
    pub const ALL: [Self; 18] = [
        Self::Sim,
        Self::CsvRow,
        Self::AlphaVantageQuote,
        Self::AlphaVantageSeries,
        Self::YahooChart,
        Self::FinnhubQuote,
        Self::TwelveDataQuote,
        Self::TwelveDataSeries,
        Self::StooqQuotes,
        Self::CoinbaseMatch,
        Self::KrakenTrade,
        Self::BinanceTrade,
        Self::AlpacaJson,
        Self::AlpacaMsgpack,
        Self::FinnhubTrades,
        Self::Html,
        Self::Csv,
        Self::Ndjson,
    ];

    /// As in [`headers::FORMAT`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sim => "sim",
            Self::CsvRow => "csv-row",
            Self::AlphaVantageQuote => "alphavantage-quote",
            Self::AlphaVantageSeries => "alphavantage-series",
            Self::YahooChart => "yahoo-chart",
            Self::FinnhubQuote => "finnhub-quote",
            Self::TwelveDataQuote => "twelvedata-quote",
            Self::TwelveDataSeries => "twelvedata-series",
            Self::StooqQuotes => "stooq-quotes",
            Self::CoinbaseMatch => "coinbase-match",
            Self::KrakenTrade => "kraken-trade",
            Self::BinanceTrade => "binance-trade",
            Self::AlpacaJson => "alpaca-json",
            Self::AlpacaMsgpack => "alpaca-msgpack",
            Self::FinnhubTrades => "finnhub-trades",
            Self::Html => "html",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}

/// One provider payload as fetched, byte for byte, with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTick {
    /// The deterministic message id; of a payload that is tried again, the one it had.
    pub id: String,
    /// Where it came from.
    pub source: Source,
    /// The symbol it is about; `None` where it is about many.
    pub symbol: Option<Symbol>,
    /// When it was received.
    pub received_at: Timestamp,
    /// The media type of the body, as its provider named it.
    pub content_type: String,
    /// Which decoder reads it.
    pub format: Format,
    /// The column names of a CSV row, in order, separated by commas.
    pub columns: Option<String>,
    /// The payload.
    pub body: Bytes,
}

impl RawTick {
    /// The envelope as message headers, names and values.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (headers::MESSAGE_ID, self.id.clone()),
            (headers::SOURCE, self.source.to_string()),
            (headers::RECEIVED_AT, rfc3339_nanos(self.received_at)),
            (headers::CONTENT_TYPE, self.content_type.clone()),
            (headers::FORMAT, self.format.as_str().to_owned()),
        ];
        if let Some(columns) = &self.columns {
            headers.push((headers::COLUMNS, columns.clone()));
        }
        headers
    }

    /// Reads the envelope back. `header` gives the value of the header of that name.
    pub fn from_message<'a>(
        header: impl Fn(&str) -> Option<&'a str>,
        symbol: Option<Symbol>,
        body: Bytes,
    ) -> Result<Self, EnvelopeError> {
        let required = |name| header(name).ok_or(EnvelopeError::Missing(name));
        let wrong = |name, value: &str| EnvelopeError::Wrong { name, value: value.to_owned() };
        let source = required(headers::SOURCE)?;
        let received_at = required(headers::RECEIVED_AT)?;
        let format = required(headers::FORMAT)?;
        Ok(Self {
            id: match header(headers::RETRY_OF) {
                Some(id) => id.to_owned(),
                None => required(headers::MESSAGE_ID)?.to_owned(),
            },
            source: Source::new(source).map_err(|_| wrong(headers::SOURCE, source))?,
            symbol,
            received_at: received_at
                .parse()
                .map_err(|_| wrong(headers::RECEIVED_AT, received_at))?,
            content_type: header(headers::CONTENT_TYPE)
                .unwrap_or("application/octet-stream")
                .to_owned(),
            format: Format::from_name(format).ok_or_else(|| wrong(headers::FORMAT, format))?,
            columns: header(headers::COLUMNS).map(str::to_owned),
            body,
        })
    }
}

/// RFC 3339 in UTC with all nine digits of the nanoseconds.
pub fn rfc3339_nanos(time: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    PRINTER.timestamp_to_string(&time)
}

/// An envelope that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A header that every raw message carries is not there.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header has a value that none of ours has.
    #[error("the header {name} has the value {value:?}")]
    Wrong {
        /// The header.
        name: &'static str,
        /// What it says.
        value: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawTick {
        RawTick {
            id: "file:3f:17".into(),
            source: Source::new("file").unwrap(),
            symbol: Some(Symbol::new("IBM").unwrap()),
            received_at: "2024-01-01T00:00:00.5Z".parse().unwrap(),
            content_type: "text/csv".into(),
            format: Format::CsvRow,
            columns: Some("ts_ms,symbol,price".into()),
            body: Bytes::from_static(b"1,IBM,2"),
        }
    }

    fn find<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_envelope_comes_back_from_its_headers() {
        let headers = raw().headers();
        assert_eq!(find(&headers, headers::RECEIVED_AT), Some("2024-01-01T00:00:00.500000000Z"));
        let back =
            RawTick::from_message(|name| find(&headers, name), raw().symbol, raw().body).unwrap();
        assert_eq!(back, raw());
    }

    #[test]
    fn an_envelope_that_is_not_ours_names_the_header() {
        let read = |change: (&'static str, Option<&str>)| {
            let headers: Vec<_> = raw()
                .headers()
                .into_iter()
                .filter(|(name, _)| *name != change.0)
                .chain(change.1.map(|value| (change.0, value.to_owned())))
                .collect();
            RawTick::from_message(|name| find(&headers, name), None, Bytes::new()).unwrap_err()
        };
        assert_eq!(read((headers::SOURCE, None)), EnvelopeError::Missing(headers::SOURCE));
        assert_eq!(
            read((headers::FORMAT, Some("xls"))).to_string(),
            "the header Lizards-Format has the value \"xls\""
        );
        assert!(matches!(read((headers::RECEIVED_AT, Some("now"))), EnvelopeError::Wrong { .. }));
    }
}
