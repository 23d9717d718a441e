//! A web page, read by the selectors of its site: one event per row. A page names no times, so its
//! quotes are dated when it was received.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use schemas::{HtmlField, HtmlSite, NumberFormat, TickKind};
use scraper::{ElementRef, Html, Selector};

use super::{Decoded, Event, MAX_EVENTS, malformed, missing, number::Numbers, text, too_many};
use crate::Error;

/// A site with its selectors compiled.
pub(super) struct Site {
    /// As it was configured, for errors.
    rows_text: String,
    rows: Selector,
    symbol: Field,
    price: Field,
    currency: String,
    numbers: NumberFormat,
}

/// Where in a row a value stands.
struct Field {
    /// `None` is the row itself.
    select: Option<Selector>,
    /// `None` is the text.
    attribute: Option<String>,
}

/// From 1 on.
struct Row(usize);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " (row {})", self.0)
    }
}

impl Site {
    /// `index` is the site's place in the configuration.
    pub(super) fn compile(index: usize, site: &HtmlSite) -> Result<Self, Error> {
        let key = |field: &str| format!("html[{index}].{field}");
        Ok(Self {
            rows_text: site.rows.clone(),
            rows: selector(key("rows"), &site.rows)?,
            symbol: Field::compile(key("symbol.select"), &site.symbol)?,
            price: Field::compile(key("price.select"), &site.price)?,
            currency: site.currency.clone(),
            numbers: site.decimal_separator,
        })
    }

    pub(super) fn decode(&self, body: &[u8], received_at: Timestamp, events: &mut Vec<Event>) {
        let page = Html::parse_document(&String::from_utf8_lossy(body));
        let rows: Vec<_> = page.select(&self.rows).take(MAX_EVENTS + 1).collect();
        if rows.is_empty() {
            let fault = format!("no element of the page is selected by {:?}", self.rows_text);
            return events.push(Err(malformed(fault)));
        }
        if rows.len() > MAX_EVENTS {
            return events.push(Err(too_many("rows")));
        }
        let prices: Vec<_> = rows.iter().map(|row| self.price.of(*row)).collect();
        let written = prices.iter().flatten().map(String::as_str);
        let numbers = Numbers::of(self.numbers, &self.currency, written);
        for (index, (row, price)) in rows.into_iter().zip(&prices).enumerate() {
            let price = price.as_deref();
            events.push(self.row(row, price, numbers, &Row(index + 1), received_at));
        }
    }

    fn row(
        &self,
        row: ElementRef<'_>,
        price: Option<&str>,
        numbers: Numbers,
        place: &Row,
        received_at: Timestamp,
    ) -> Event {
        let symbol = self.symbol.of(row).ok_or_else(|| missing("symbol", place))?;
        let price = price.ok_or_else(|| missing("price", place))?;
        Ok(Decoded {
            symbol: text::symbol("symbol", place, &symbol)?,
            price: numbers.read("price", place, price, &self.currency)?,
            size: None,
            currency: self.currency.clone(),
            exchange: None,
            kind: TickKind::Quote,
            ts: received_at,
        })
    }
}

impl Field {
    fn compile(key: String, field: &HtmlField) -> Result<Self, Error> {
        let given = |text: &String| !text.is_empty();
        Ok(Self {
            select: Some(&field.select)
                .filter(|text| given(text))
                .map(|text| selector(key, text))
                .transpose()?,
            attribute: Some(&field.attribute).filter(|text| given(text)).cloned(),
        })
    }

    /// The value in a row; `None` where it is not there or empty.
    fn of(&self, row: ElementRef<'_>) -> Option<String> {
        let element = match &self.select {
            Some(selector) => row.select(selector).next()?,
            None => row,
        };
        let value: Cow<'_, str> = match &self.attribute {
            Some(attribute) => element.attr(attribute)?.into(),
            None => element.text().collect::<String>().into(),
        };
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

fn selector(key: String, text: &str) -> Result<Selector, Error> {
    Selector::parse(text)
        .map_err(|_| Error::Site { key, fault: format!("{text:?} is not a CSS selector") })
}
