//! The bars of Alpha Vantage's `TIME_SERIES_INTRADAY` and `TIME_SERIES_DAILY`:
//! <https://www.alphavantage.co/documentation/#time-series-data>.
//!
//! The time zone is in the `Meta Data`, as `US/Eastern`. The bars are the fields of an object whose
//! name begins with `Time Series`, each named by its time.

use jiff::tz::TimeZone;
use schemas::{RawTick, Reason, Rejection, Symbol, TickKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::{
    Decoded, Event, MAX_EVENTS, bars,
    json::{self, Field},
    missing, too_many,
};

#[derive(Deserialize)]
struct Bar<'a> {
    #[serde(borrow, rename = "4. close")]
    close: Field<'a>,
    #[serde(borrow, rename = "5. volume")]
    volume: Field<'a>,
}

/// What is the same for all bars.
struct Series<'a> {
    symbol: Symbol,
    length: String,
    zone: TimeZone,
    currency: &'a str,
}

pub(in crate::decode) fn decode(raw: &RawTick, currency: &str, events: &mut Vec<Event>) {
    match read(raw, currency) {
        Ok(mut bars) => {
            bars::oldest_first(&mut bars);
            events.append(&mut bars);
        }
        Err(rejection) => events.push(Err(rejection)),
    }
}

fn read(raw: &RawTick, currency: &str) -> Result<Vec<Event>, Rejection> {
    let payload = json::entries(&raw.body)?;
    let field = |name: &str| payload.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    for name in ["Error Message", "Note", "Information"] {
        if let Some(said) = field(name) {
            let detail = format!("{name}: {}", said.get());
            return Err(Rejection::decode(Reason::ProviderError, detail));
        }
    }
    let meta = field("Meta Data").ok_or_else(|| missing("Meta Data", &""))?;
    let series = Series::read(meta, raw.symbol.as_ref(), currency)?;
    let rows = payload.iter().find(|(key, _)| key.starts_with("Time Series"));
    let (_, rows) = rows.ok_or_else(|| missing("Time Series", &""))?;
    let rows = json::entries(rows.get().as_bytes())?;
    if rows.is_empty() {
        return Err(missing("Time Series", &": it has no bars"));
    }
    if rows.len() > MAX_EVENTS {
        return Err(too_many("bars"));
    }
    Ok((1..).zip(&rows).map(|(row, (time, bar))| series.bar(bars::Row(row), time, bar)).collect())
}

impl<'a> Series<'a> {
    fn read(meta: &RawValue, asked: Option<&Symbol>, currency: &'a str) -> Result<Self, Rejection> {
        // Numbered in one function otherwise than in the other.
        let meta = json::entries(meta.get().as_bytes())?;
        let field = |name: &str| {
            let found = meta.iter().find(|(key, _)| key.ends_with(name));
            found.map(|(_, value)| *value)
        };
        let interval = json::shared_string("Meta Data.Interval", field(". Interval"))?;
        let zone = json::string("Meta Data.Time Zone", field(". Time Zone"))?;
        Ok(Self {
            symbol: bars::symbol("Meta Data.Symbol", asked, field(". Symbol"))?,
            length: interval.unwrap_or_else(|| "1d".to_owned()),
            zone: bars::zone("Meta Data.Time Zone", &zone)?,
            currency,
        })
    }

    fn bar(&self, row: bars::Row, time: &str, bar: &RawValue) -> Event {
        let ts = bars::local_time("time", &row, time, &self.zone)?;
        let bar: Bar<'_> = json::object(bar.get().as_bytes())?;
        let price = json::number_at("4. close", &row, bar.close)?;
        let size = json::optional_number_at("5. volume", &row, bar.volume)?;
        Ok(Decoded {
            identity: Some(bars::identity(&self.length, ts, &price, size.as_ref())),
            symbol: self.symbol.clone(),
            price,
            size,
            currency: self.currency.to_owned(),
            exchange: None,
            kind: TickKind::Bar,
            ts,
        })
    }
}
