//! The bars of Yahoo Finance's `/v8/finance/chart/{symbol}`, which Yahoo does not document; see
//! <https://github.com/ranaroussi/yfinance>.
//!
//! The bars stand in columns: `timestamp` in seconds since 1970, and under `indicators.quote` one list
//! for each of the others. Where nothing was traded a bar has nulls, and is rejected. Where there are
//! no bars at all, as before an exchange opens, the quote in `meta` is the only event.

use jiff::Timestamp;
use schemas::{Decimal, RawTick, Reason, Rejection, Symbol, TickKind};
use serde::Deserialize;

use super::{
    Decoded, Event, MAX_EVENTS,
    bars::{self, Row},
    json::{self, Field},
    missing, too_many,
};

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    chart: Field<'a>,
}

#[derive(Deserialize)]
struct Chart<'a> {
    #[serde(borrow)]
    result: Field<'a>,
    #[serde(borrow)]
    error: Field<'a>,
}

#[derive(Deserialize)]
struct Charted<'a> {
    #[serde(borrow)]
    meta: Field<'a>,
    #[serde(borrow)]
    timestamp: Field<'a>,
    #[serde(borrow)]
    indicators: Field<'a>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    symbol: Field<'a>,
    #[serde(borrow)]
    currency: Field<'a>,
    #[serde(borrow, rename = "exchangeName")]
    exchange: Field<'a>,
    #[serde(borrow, rename = "dataGranularity")]
    length: Field<'a>,
    #[serde(borrow, rename = "regularMarketPrice")]
    price: Field<'a>,
    #[serde(borrow, rename = "regularMarketTime")]
    time: Field<'a>,
}

#[derive(Deserialize)]
struct Indicators<'a> {
    #[serde(borrow)]
    quote: Field<'a>,
}

#[derive(Deserialize)]
struct Columns<'a> {
    #[serde(borrow)]
    close: Field<'a>,
    #[serde(borrow)]
    volume: Field<'a>,
}

pub(super) fn decode(raw: &RawTick, currency: &str, events: &mut Vec<Event>) {
    match read(raw, currency) {
        Ok(mut bars) => events.append(&mut bars),
        Err(rejection) => events.push(Err(rejection)),
    }
}

fn read(raw: &RawTick, currency: &str) -> Result<Vec<Event>, Rejection> {
    let payload: Payload<'_> = json::object(&raw.body)?;
    let chart = payload.chart.ok_or_else(|| missing("chart", &""))?;
    let chart: Chart<'_> = json::object(chart.get().as_bytes())?;
    if let Some(error) = chart.error {
        let detail = format!("chart.error: {}", error.get());
        return Err(Rejection::decode(Reason::ProviderError, detail));
    }
    let results = json::list("chart.result", chart.result)?;
    let result = results.first().copied().flatten();
    let result = result.ok_or_else(|| missing("chart.result", &": it is empty"))?;
    let result: Charted<'_> = json::object(result.get().as_bytes())?;
    let meta = result.meta.ok_or_else(|| missing("meta", &""))?;
    let meta: Meta<'_> = json::object(meta.get().as_bytes())?;
    let series = Series::read(&meta, raw.symbol.as_ref(), currency)?;
    let times = json::list("timestamp", result.timestamp)?;
    let (closes, volumes) = columns(result.indicators)?;
    let rows = times.len().max(closes.len());
    if rows > MAX_EVENTS {
        return Err(too_many("bars"));
    }
    if rows == 0 {
        return Ok(vec![series.quote(&meta)]);
    }
    let bar = |row| {
        let [time, close, volume] =
            [&times, &closes, &volumes].map(|column| column.get(row).copied().flatten());
        series.bar(Row(row + 1), time, close, volume)
    };
    Ok((0..rows).map(bar).collect())
}

/// The closes and the volumes; none where there is no `quote`.
fn columns(indicators: Field<'_>) -> Result<(Vec<Field<'_>>, Vec<Field<'_>>), Rejection> {
    let Some(indicators) = indicators else { return Ok((Vec::new(), Vec::new())) };
    let indicators: Indicators<'_> = json::object(indicators.get().as_bytes())?;
    let quotes = json::list("indicators.quote", indicators.quote)?;
    let Some(quote) = quotes.first().copied().flatten() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let columns: Columns<'_> = json::object(quote.get().as_bytes())?;
    Ok((json::list("close", columns.close)?, json::list("volume", columns.volume)?))
}

/// What is the same for all bars.
struct Series {
    symbol: Symbol,
    length: String,
    currency: String,
    exchange: Option<String>,
}

impl Series {
    fn read(meta: &Meta<'_>, asked: Option<&Symbol>, currency: &str) -> Result<Self, Rejection> {
        let length = json::shared_string("meta.dataGranularity", meta.length)?;
        let named = json::shared_string("meta.currency", meta.currency)?;
        Ok(Self {
            symbol: bars::symbol("meta.symbol", asked, meta.symbol)?,
            length: length.unwrap_or_default(),
            currency: named.unwrap_or_else(|| currency.to_owned()),
            exchange: json::shared_string("meta.exchangeName", meta.exchange)?,
        })
    }

    fn bar(&self, row: Row, time: Field<'_>, close: Field<'_>, volume: Field<'_>) -> Event {
        let ts = bars::epoch_seconds("timestamp", &row, time)?;
        let price = json::number_at("close", &row, close)?;
        let size = json::optional_number_at("volume", &row, volume)?;
        Ok(self.event(TickKind::Bar, &self.length, ts, price, size))
    }

    fn quote(&self, meta: &Meta<'_>) -> Event {
        let ts = bars::epoch_seconds("meta.regularMarketTime", &"", meta.time)?;
        let price = json::number("meta.regularMarketPrice", meta.price)?;
        Ok(self.event(TickKind::Quote, "quote", ts, price, None))
    }

    fn event(
        &self,
        kind: TickKind,
        length: &str,
        ts: Timestamp,
        price: Decimal,
        size: Option<Decimal>,
    ) -> Decoded {
        Decoded {
            identity: Some(bars::identity(length, ts, &price, size.as_ref())),
            symbol: self.symbol.clone(),
            price,
            size,
            currency: self.currency.clone(),
            exchange: self.exchange.clone(),
            kind,
            ts,
        }
    }
}
