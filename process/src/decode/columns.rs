//! The lines of a CSV file (RFC 4180), and where its columns are.

use std::{iter, str::Utf8Error};

use csv::{ByteRecord, ReaderBuilder};

/// The lines, each as large as it is: those of the library's own iterator have room for as many
/// fields as the longest line before them, so a long header and short lines would take gigabytes.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = csv::Result<ByteRecord>> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(body);
    let mut line = ByteRecord::new();
    iter::from_fn(move || match reader.read_byte_record(&mut line) {
        Ok(true) => Some(Ok(line.iter().collect())),
        Ok(false) => None,
        Err(fault) => Some(Err(fault)),
    })
}

/// The columns that mean something, found once: a header can be as long as its file, and must not be
/// searched for every row.
pub(super) struct Columns<'a>(Vec<(&'a str, Option<usize>)>);

impl<'a> Columns<'a> {
    /// Letters are the same in either case, and white space around a name is not part of it.
    pub(super) fn find(header: &ByteRecord, names: impl IntoIterator<Item = &'a str>) -> Self {
        let same =
            |column: &[u8], name: &str| column.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        let place = |name: &str| header.iter().position(|column| same(column, name));
        Self(names.into_iter().map(|name| (name, place(name))).collect())
    }

    /// The place of a column, from 0 on; nothing for a name that was not looked for.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        self.0.iter().find(|(known, _)| *known == name)?.1
    }
    /// What a line has in a column, without white space around it; nothing where that is all there is.
    pub(super) fn text<'line>(
        &self,
        name: &str,
        line: &'line ByteRecord,
    ) -> Result<Option<&'line str>, Utf8Error> {
        let Some(bytes) = self.get(name).and_then(|column| line.get(column)) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes)?.trim();
        Ok((!text.is_empty()).then_some(text))
    }
}
