//! One value in a row of a page.

use std::borrow::Cow;

use schemas::{HtmlField, Rejection};
use scraper::{ElementRef, Selector};

use super::charset::REPLACEMENT;
use crate::{
    Error,
    decode::{invalid, missing},
};

/// Where in a row a value stands, compiled.
pub(super) struct Field {
    /// As in the configuration, for errors.
    name: &'static str,
    /// `None` is the row itself.
    select: Option<Selector>,
    /// `None` is the text.
    attribute: Option<String>,
    after: String,
    before: String,
}

impl Field {
    /// `site` is the key of the site.
    pub(super) fn compile(
        site: &str,
        name: &'static str,
        field: &HtmlField,
    ) -> Result<Self, Error> {
        let select = match field.select.as_str() {
            "" => None,
            text => Some(selector(format!("{site}.{name}.select"), text)?),
        };
        Ok(Self {
            name,
            select,
            attribute: (!field.attribute.is_empty()).then(|| field.attribute.clone()),
            after: field.after.clone(),
            before: field.before.clone(),
        })
    }

    /// The value in a row, which has to be there.
    pub(super) fn required(&self, row: ElementRef<'_>, place: &str) -> Result<String, Rejection> {
        self.of(row, place)?.ok_or_else(|| missing(self.name, &place))
    }

    /// The value in a row; `None` where it is not there or empty.
    pub(super) fn of(&self, row: ElementRef<'_>, place: &str) -> Result<Option<String>, Rejection> {
        let value = self.written(row);
        if value.as_ref().is_some_and(|value| value.contains(REPLACEMENT)) {
            return Err(invalid(self.name, &place, "it is not written in the page's charset"));
        }
        Ok(value)
    }

    /// As [`of`](Self::of), whatever bytes it is of.
    pub(super) fn written(&self, row: ElementRef<'_>) -> Option<String> {
        let element = match &self.select {
            Some(selector) => row.select(selector).next()?,
            None => row,
        };
        let value: Cow<'_, str> = match &self.attribute {
            Some(attribute) => element.attr(attribute)?.into(),
            None => element.text().collect::<String>().into(),
        };
        let value = match self.after.as_str() {
            "" => &value,
            after => value.split_once(after)?.1,
        };
        let value = match self.before.as_str() {
            "" => value,
            before => value.split(before).next().unwrap_or_default(),
        };
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }
}

/// Compiles a CSS selector; `key` is its own.
pub(super) fn selector(key: String, text: &str) -> Result<Selector, Error> {
    Selector::parse(text)
        .map_err(|_| Error::Site { key, fault: format!("{text:?} is not a CSS selector") })
}
