//! The answers of Twelve Data's `/quote` and `/time_series`: <https://twelvedata.com/docs>.
//!
//! An answer about one symbol is its result; one about many is an object with a result for each,
//! named as it was asked for (<https://support.twelvedata.com/en/articles/5203360-batch-api-requests>).
//! A result may be an error of its own, with a `code` and a `message`. Times of bars are those of the
//! exchange where the `meta` names its time zone, and UTC otherwise.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use schemas::{RawTick, Reason, Rejection, Symbol, TickKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Decoded, Event, MAX_EVENTS,
    bars::{self, Row},
    invalid,
    json::{self, Field},
    malformed, missing, too_many,
};

#[derive(Deserialize)]
struct Quote<'a> {
    #[serde(borrow)]
    symbol: Field<'a>,
    #[serde(borrow)]
    exchange: Field<'a>,
    #[serde(borrow)]
    currency: Field<'a>,
    #[serde(borrow)]
    close: Field<'a>,
    /// Of the day so far.
    #[serde(borrow)]
    volume: Field<'a>,
    /// When the day began.
    #[serde(borrow)]
    timestamp: Field<'a>,
    /// When the newest minute began.
    #[serde(borrow)]
    last_quote_at: Field<'a>,
    #[serde(borrow)]
    code: Field<'a>,
    #[serde(borrow)]
    message: Field<'a>,
}

#[derive(Deserialize)]
struct Bars<'a> {
    #[serde(borrow)]
    meta: Field<'a>,
    #[serde(borrow)]
    values: Field<'a>,
    #[serde(borrow)]
    code: Field<'a>,
    #[serde(borrow)]
    message: Field<'a>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    symbol: Field<'a>,
    #[serde(borrow)]
    interval: Field<'a>,
    #[serde(borrow)]
    currency: Field<'a>,
    #[serde(borrow)]
    exchange: Field<'a>,
    #[serde(borrow)]
    exchange_timezone: Field<'a>,
}

#[derive(Deserialize)]
struct Bar<'a> {
    #[serde(borrow)]
    datetime: Field<'a>,
    #[serde(borrow)]
    close: Field<'a>,
    #[serde(borrow)]
    volume: Field<'a>,
}

/// The result of one symbol.
struct Outcome<'a> {
    /// As it was asked for, where that is known.
    symbol: Option<Symbol>,
    result: &'a [u8],
}

/// Quotes of `/quote`.
pub(super) fn quotes(raw: &RawTick, currency: &str, events: &mut Vec<Event>) {
    of_each(raw, &["close", "code"], events, |outcome, events| {
        events.push(quote(&outcome, currency));
    });
}

/// Bars of `/time_series`.
pub(super) fn series(raw: &RawTick, currency: &str, events: &mut Vec<Event>) {
    of_each(raw, &["values", "code"], events, |outcome, events| match bars(&outcome, currency) {
        Ok(mut bars) => events.append(&mut bars),
        Err(rejection) => events.push(Err(rejection)),
    });
}

/// Takes the answer apart: it is about one symbol where it has one of these fields.
fn of_each(
    raw: &RawTick,
    fields: &[&str],
    events: &mut Vec<Event>,
    decode: impl Fn(Outcome<'_>, &mut Vec<Event>),
) {
    let before = events.len();
    let results = match json::entries(&raw.body) {
        Ok(results) if results.is_empty() => return events.push(Err(malformed("it is empty"))),
        Ok(results) => results,
        Err(rejection) => return events.push(Err(rejection)),
    };
    if results.iter().any(|(name, _)| fields.contains(&&**name)) {
        decode(Outcome { symbol: raw.symbol.clone(), result: &raw.body }, events);
    } else {
        for (name, result) in results {
            match super::text::symbol("symbol", &"", &name) {
                Ok(symbol) => {
                    let result = result.get().as_bytes();
                    decode(Outcome { symbol: Some(symbol), result }, events);
                }
                Err(rejection) => events.push(Err(rejection)),
            }
        }
    }
    if events.len() - before > MAX_EVENTS {
        events.truncate(before);
        events.push(Err(too_many("results")));
    }
}

fn quote(outcome: &Outcome<'_>, currency: &str) -> Event {
    let quote: Quote<'_> = json::object(outcome.result)?;
    refuse_error(outcome, quote.code, quote.message)?;
    let symbol = symbol(outcome, quote.symbol)?;
    let ts = match quote.last_quote_at {
        Some(_) => bars::epoch_seconds("last_quote_at", &"", quote.last_quote_at)?,
        None => bars::epoch_seconds("timestamp", &"", quote.timestamp)?,
    };
    let price = json::number("close", quote.close)?;
    let size = json::optional_number("volume", quote.volume)?;
    Ok(Decoded {
        identity: Some(bars::identity("quote", ts, &price, size.as_ref())),
        currency: self::currency(&symbol, quote.currency, currency)?,
        symbol,
        price,
        size,
        exchange: json::optional_string("exchange", quote.exchange)?.map(Cow::into_owned),
        kind: TickKind::Quote,
        ts,
    })
}

fn bars(outcome: &Outcome<'_>, currency: &str) -> Result<Vec<Event>, Rejection> {
    let answer: Bars<'_> = json::object(outcome.result)?;
    refuse_error(outcome, answer.code, answer.message)?;
    let meta = answer.meta.ok_or_else(|| missing("meta", &""))?;
    let meta: Meta<'_> = json::object(meta.get().as_bytes())?;
    let symbol = symbol(outcome, meta.symbol)?;
    let length = json::shared_string("meta.interval", meta.interval)?.unwrap_or_default();
    let zone = match json::optional_string("meta.exchange_timezone", meta.exchange_timezone)? {
        Some(zone) if !zone.is_empty() => bars::zone("meta.exchange_timezone", &zone)?,
        _ => TimeZone::UTC,
    };
    let currency = self::currency(&symbol, meta.currency, currency)?;
    let exchange = json::shared_string("meta.exchange", meta.exchange)?;
    let values = json::list("values", answer.values)?;
    if values.is_empty() {
        return Err(missing("values", &": there are no bars"));
    }
    if values.len() > MAX_EVENTS {
        return Err(too_many("bars"));
    }
    let bar = |row: Row, value: Field<'_>| {
        let value: &RawValue = value.ok_or_else(|| missing("values", &row))?;
        let bar: Bar<'_> = json::object(value.get().as_bytes())?;
        let time = json::string("datetime", bar.datetime)?;
        let ts = bars::local_time("datetime", &row, &time, &zone)?;
        let price = json::number_at("close", &row, bar.close)?;
        let size = json::optional_number_at("volume", &row, bar.volume)?;
        Ok(Decoded {
            identity: Some(bars::identity(&length, ts, &price, size.as_ref())),
            symbol: symbol.clone(),
            price,
            size,
            currency: currency.clone(),
            exchange: exchange.clone(),
            kind: TickKind::Bar,
            ts,
        })
    };
    let mut events: Vec<_> = (1..).zip(values).map(|(row, value)| bar(Row(row), value)).collect();
    bars::oldest_first(&mut events);
    Ok(events)
}

/// What stands where the prices of a symbol should be.
fn refuse_error(
    outcome: &Outcome<'_>,
    code: Field<'_>,
    message: Field<'_>,
) -> Result<(), Rejection> {
    let Some(code) = code else { return Ok(()) };
    let message = message.map_or("nothing more", RawValue::get);
    let of = outcome.symbol.as_ref().map(|symbol| format!("{symbol}: ")).unwrap_or_default();
    Err(Rejection::decode(Reason::ProviderError, format!("{of}code {}: {message}", code.get())))
}

/// As it was asked for. With an exchange, as `SBIN:NSE`, the result names only the first part.
fn symbol(outcome: &Outcome<'_>, said: Field<'_>) -> Result<Symbol, Rejection> {
    let Some(asked) = &outcome.symbol else { return json::symbol("symbol", said) };
    let Some(said) = json::optional_string("symbol", said)? else { return Ok(asked.clone()) };
    let name = asked.as_str().split(':').next().unwrap_or_default();
    if said.eq_ignore_ascii_case(name) || said.eq_ignore_ascii_case(asked.as_str()) {
        return Ok(asked.clone());
    }
    let said = super::text::shorten(&said);
    Err(invalid("symbol", &"", format!("{said:?} is not {asked}, which was asked for")))
}

/// As it is named; that of a pair such as `EUR/USD` is its second part.
fn currency(symbol: &Symbol, named: Field<'_>, otherwise: &str) -> Result<String, Rejection> {
    let named = json::shared_string("currency", named)?.filter(|named| !named.is_empty());
    let pair = symbol.as_str().split(':').next().and_then(|name| name.split_once('/'));
    Ok(match (named, pair) {
        (Some(named), _) => named,
        (None, Some((_, quote))) => quote.to_owned(),
        (None, None) => otherwise.to_owned(),
    })
}
