//! A web page, read by the selectors of its site: one event per row. A page names no times, so its
//! quotes are dated when it was received.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use schemas::{Decimal, HtmlField, HtmlSite, Rejection, TickKind};
use scraper::{ElementRef, Html, Selector};

use super::{Decoded, Event, invalid, malformed, missing, text};
use crate::Error;

/// A site with its selectors compiled.
pub(super) struct Site {
    /// As it was configured, for errors.
    rows_text: String,
    rows: Selector,
    symbol: Field,
    price: Field,
    currency: String,
    decimal_separator: char,
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
        if !matches!(site.decimal_separator, '.' | ',') {
            return Err(Error::Site {
                key: key("decimal_separator"),
                fault: format!("{:?} must be \".\" or \",\"", site.decimal_separator),
            });
        }
        Ok(Self {
            rows_text: site.rows.clone(),
            rows: selector(key("rows"), &site.rows)?,
            symbol: Field::compile(key("symbol.select"), &site.symbol)?,
            price: Field::compile(key("price.select"), &site.price)?,
            currency: site.currency.clone(),
            decimal_separator: site.decimal_separator,
        })
    }

    pub(super) fn decode(&self, body: &[u8], received_at: Timestamp, events: &mut Vec<Event>) {
        let page = Html::parse_document(&String::from_utf8_lossy(body));
        let before = events.len();
        for (index, row) in page.select(&self.rows).enumerate() {
            events.push(self.row(row, &Row(index + 1), received_at));
        }
        if events.len() == before {
            let fault = format!("no element of the page is selected by {:?}", self.rows_text);
            events.push(Err(malformed(fault)));
        }
    }

    fn row(&self, row: ElementRef<'_>, place: &Row, received_at: Timestamp) -> Event {
        let symbol = self.symbol.of(row).ok_or_else(|| missing("symbol", place))?;
        let price = self.price.of(row).ok_or_else(|| missing("price", place))?;
        Ok(Decoded {
            symbol: text::symbol("symbol", place, &symbol)?,
            price: self.number("price", place, &price)?,
            size: None,
            currency: self.currency.clone(),
            exchange: None,
            kind: TickKind::Quote,
            ts: received_at,
        })
    }

    fn number(&self, field: &str, place: &Row, written: &str) -> Result<Decimal, Rejection> {
        let plain =
            plain_number(written, self.decimal_separator, &self.currency).ok_or_else(|| {
                invalid(field, place, format!("{:?} is not a number", text::shorten(written)))
            })?;
        text::number(field, place, &plain)
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

/// A number as people write it, without its currency and grouping: `€ 1.234,50` is `1234.50`.
///
/// Groups must have the length of groups (three digits at the end, two or three before, one to
/// three at the front): where the separators are mixed up, `1,5` must not become 15.
fn plain_number(written: &str, decimal_separator: char, currency: &str) -> Option<String> {
    const SIGNS: &str = "$€£¥₹₽₩₺₴₫฿₪₦₱₿¢";
    let is_sign = |c: char| c.is_whitespace() || SIGNS.contains(c);
    let mut number = written.trim_matches(is_sign);
    for _ in 0..2 {
        number = strip_code(number, currency).trim_matches(is_sign);
    }
    let (minus, number) = match number.strip_prefix(['-', '\u{2212}']) {
        Some(number) => ("-", number.trim_start_matches(is_sign)),
        None => ("", number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = match number.split_once(decimal_separator) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let is_grouping = |c: char| {
        c.is_whitespace()
            || matches!(c, '\'' | '’')
            || (matches!(c, '.' | ',') && c != decimal_separator)
    };
    let groups: Vec<&str> = whole.split(is_grouping).collect();
    let (last, others) = groups.split_last()?;
    if let Some((first, middle)) = others.split_first() {
        let lengths_fit = (1..=3).contains(&first.len())
            && middle.iter().all(|group| (2..=3).contains(&group.len()))
            && last.len() == 3;
        if !lengths_fit {
            return None;
        }
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !groups.iter().all(|group| digits(group)) || !fraction.is_none_or(digits) {
        return None;
    }
    let whole = groups.concat();
    Some(match fraction {
        Some(fraction) => format!("{minus}{whole}.{fraction}"),
        None => format!("{minus}{whole}"),
    })
}

/// Takes the code of the currency from either end.
fn strip_code<'a>(number: &'a str, currency: &str) -> &'a str {
    let same = |part: &str| part.eq_ignore_ascii_case(currency);
    if let Some((code, rest)) = number.split_at_checked(currency.len())
        && same(code)
    {
        return rest;
    }
    let end = number.len().saturating_sub(currency.len());
    match number.split_at_checked(end) {
        Some((rest, code)) if same(code) => rest,
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        for (written, separator, plain) in [
            ("1,234.50", '.', "1234.50"),
            ("€ 1.234,50", ',', "1234.50"),
            ("1'234.50 chf", '.', "1234.50"),
            ("12\u{a0}345,6700 €", ',', "12345.6700"),
            ("12,34,567.8", '.', "1234567.8"),
            ("$0.10", '.', "0.10"),
            ("\u{2212}$3.5", '.', "-3.5"),
            ("+7", '.', "7"),
            ("CHF1.50", '.', "1.50"),
        ] {
            assert_eq!(
                plain_number(written, separator, "CHF").as_deref(),
                Some(plain),
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_not_clearly_a_number_is_none() {
        for (written, separator) in [
            ("1,5", '.'),
            ("1,50", '.'),
            ("1.5", ','),
            ("1,2345.6", '.'),
            ("1.5.6", '.'),
            ("1.5,000", '.'),
            ("N/A", '.'),
            ("12 apples", '.'),
            ("1,,234", '.'),
        ] {
            assert_eq!(plain_number(written, separator, "USD"), None, "{written}");
        }
        for empty in ["", "-", "$", "USD"] {
            let plain = plain_number(empty, '.', "USD").unwrap_or_default();
            assert!(Decimal::parse(&plain).is_err(), "{empty}");
        }
    }
}
