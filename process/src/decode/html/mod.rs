//! A web page, read by the selectors of its site: one event per row, or the page is the one row. A
//! price whose time the page does not name is dated when the page was received.

mod charset;
mod field;
mod page;
#[cfg(test)]
mod tests;

use schemas::{
    HtmlField, HtmlSite, NumberFormat, RawTick, Rejection, Symbol, TickKind, TimeFormat,
};
use scraper::{ElementRef, Selector};

use super::{Decoded, Event, MAX_EVENTS, invalid, malformed, number::Numbers, text, too_many};
use crate::Error;

use field::{Field, selector};

/// A site with its selectors compiled.
pub(super) struct Site {
    /// `None` where the page is one quote.
    rows: Option<Rows>,
    /// `None` where the address of the page says the symbol.
    symbol: Option<Field>,
    price: Field,
    size: Option<Field>,
    time: Option<(Field, TimeFormat)>,
    currency: String,
    currency_field: Option<Field>,
    numbers: NumberFormat,
}

struct Rows {
    /// As it was configured, for errors.
    text: String,
    selector: Selector,
}

impl Site {
    /// `index` is the site's place in the configuration.
    pub(super) fn compile(index: usize, site: &HtmlSite) -> Result<Self, Error> {
        let key = format!("html[{index}]");
        let wrong = |field: &str, fault: &str| {
            Err(Error::Site { key: format!("{key}.{field}"), fault: fault.to_owned() })
        };
        if site.symbol.is_none() && !site.has_page_per_symbol() {
            return wrong("symbol", "where does it stand? The url has no {symbol}");
        }
        if !(2..=10).contains(&site.currency.chars().count()) {
            return wrong("currency", "it must have 2 to 10 characters");
        }
        // Only a browser uses it.
        if !site.wait_for.is_empty() {
            selector(format!("{key}.wait_for"), &site.wait_for)?;
        }
        let optional = |name, field: &Option<HtmlField>| {
            field.as_ref().map(|field| Field::compile(&key, name, field)).transpose()
        };
        let rows = match site.rows.as_str() {
            "" => None,
            text => {
                let selector = selector(format!("{key}.rows"), text)?;
                Some(Rows { text: text.to_owned(), selector })
            }
        };
        let time = match optional("time", &site.time)? {
            None => None,
            Some(field) => match TimeFormat::new(&site.time_format, &site.time_zone) {
                Ok(format) => Some((field, format)),
                Err(fault) => return wrong("time_format", &fault),
            },
        };
        Ok(Self {
            rows,
            symbol: optional("symbol", &site.symbol)?,
            price: Field::compile(&key, "price", &site.price)?,
            size: optional("size", &site.size)?,
            time,
            currency: site.currency.clone(),
            currency_field: optional("currency_field", &site.currency_field)?,
            numbers: site.decimal_separator,
        })
    }

    pub(super) fn decode(&self, raw: &RawTick, events: &mut Vec<Event>) {
        let text = charset::text(&raw.body, &raw.content_type);
        let page = match page::parse(&text) {
            Ok(page) => page,
            Err(fault) => return events.push(Err(malformed(fault.to_string()))),
        };
        let Some(of_site) = &self.rows else {
            let row = page.root_element();
            let written = self.price.written(row);
            let numbers = self.numbers(written.into_iter());
            return events.push(self.row(row, numbers, "", raw));
        };
        let rows: Vec<_> = page.select(&of_site.selector).take(MAX_EVENTS + 1).collect();
        if rows.is_empty() {
            let fault = format!("no element of the page is selected by {:?}", of_site.text);
            return events.push(Err(malformed(fault)));
        }
        if rows.len() > MAX_EVENTS {
            return events.push(Err(too_many("rows")));
        }
        // One at a time: rows that stand in one another have their texts in common.
        let numbers = self.numbers(rows.iter().filter_map(|row| self.price.written(*row)));
        for (index, row) in rows.into_iter().enumerate() {
            events.push(self.row(row, numbers, &format!(" (row {})", index + 1), raw));
        }
    }

    /// How the numbers of a page are written that has these prices.
    fn numbers(&self, prices: impl Iterator<Item = String>) -> Numbers {
        Numbers::of(self.numbers, &self.currency, prices)
    }

    fn row(&self, row: ElementRef<'_>, numbers: Numbers, place: &str, raw: &RawTick) -> Event {
        let currency = match &self.currency_field {
            Some(field) => field.of(row, place)?,
            None => None,
        };
        let currency = currency.unwrap_or_else(|| self.currency.clone());
        let number = |name, written: &str| numbers.read(name, &place, written, &currency);
        let size = match &self.size {
            Some(field) => field.of(row, place)?,
            None => None,
        };
        Ok(Decoded {
            identity: None,
            symbol: self.symbol(row, place, raw)?,
            price: number("price", &self.price.required(row, place)?)?,
            size: size.map(|size| number("size", &size)).transpose()?,
            exchange: None,
            kind: TickKind::Quote,
            ts: match &self.time {
                Some((field, format)) => {
                    let written = field.required(row, place)?;
                    format.read(&written).map_err(|fault| invalid("time", &place, fault))?
                }
                None => raw.received_at,
            },
            currency,
        })
    }

    /// The symbol that the page was fetched for, else the one that stands on it. Where there are both
    /// they must agree: the page may be that of another.
    fn symbol(&self, row: ElementRef<'_>, place: &str, raw: &RawTick) -> Result<Symbol, Rejection> {
        let shown = match &self.symbol {
            Some(field) => Some(text::symbol("symbol", &place, &field.required(row, place)?)?),
            None => None,
        };
        match (&raw.symbol, shown) {
            (Some(asked), Some(shown)) if *asked != shown => {
                let fault =
                    format!("the page of {:?} is about {:?}", asked.as_str(), shown.as_str());
                Err(invalid("symbol", &place, fault))
            }
            (Some(asked), _) => Ok(asked.clone()),
            (None, Some(shown)) => Ok(shown),
            (None, None) => {
                Err(invalid("symbol", &place, "the payload was not fetched for a symbol"))
            }
        }
    }
}
