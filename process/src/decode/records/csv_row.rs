//! One row of a CSV file of a source with a mapping; its column names stand in the envelope.

use std::borrow::Cow;

use schemas::Rejection;

use super::{Mapping, Row};
use crate::decode::{Event, csv_row::each_field};

/// The fields of a row with the names of their columns, in order.
struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Fields<'_> {
    fn column(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(column, _)| column.eq_ignore_ascii_case(name))
    }
}

impl Row for Fields<'_> {
    fn field(&self, name: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
        let text = self.column(name).map(|column| &*self.0[column].1);
        Ok(text.filter(|text| !text.is_empty()).map(Cow::Borrowed))
    }

    fn place(&self, name: &str) -> String {
        self.column(name).map_or_else(String::new, |column| format!(" (column {})", column + 1))
    }
}

pub(in crate::decode) fn decode(body: &[u8], columns: Option<&str>, mapping: &Mapping) -> Event {
    let mut fields = Fields(Vec::new());
    each_field(body, columns, mapping.fields.delimiter, |name, text| {
        fields.0.push((name, text));
        Ok(())
    })?;
    mapping.event(&fields, mapping.numbers(std::iter::once(&fields)))
}
