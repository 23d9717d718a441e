//! The fields of a CSV row (RFC 4180), found without reading further than needed.

use std::borrow::Cow;

/// Where in a field a reader of CSV is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Before it, where a quote opens a quoted field.
    FieldStart,
    /// In a field without quotes around it.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote inside a quoted field: its end, or the first half of an escaped quote.
    Quote,
}

impl At {
    pub(super) fn after(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::FieldStart | Self::Quote, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) => Self::Quoted,
            (_, byte) if byte == delimiter => Self::FieldStart,
            (Self::FieldStart, b' ' | b'\t') => Self::FieldStart,
            _ => Self::Plain,
        }
    }
}

/// The fields of a row, unquoted and without white space around them.
pub(super) struct Fields<'a> {
    /// What is not read yet; `None` after the last field.
    rest: Option<&'a [u8]>,
    delimiter: u8,
}

impl<'a> Fields<'a> {
    pub(super) fn of(row: &'a [u8], delimiter: u8) -> Self {
        Self { rest: Some(row), delimiter }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let mut at = At::FieldStart;
        let end = rest.iter().position(|&byte| {
            let ends = byte == self.delimiter && at != At::Quoted;
            at = at.after(byte, self.delimiter);
            ends
        });
        let field = match end {
            Some(end) => {
                self.rest = Some(&rest[end + 1..]);
                &rest[..end]
            }
            None => rest,
        };
        Some(unquoted(field.trim_ascii()))
    }
}

fn unquoted(field: &[u8]) -> Cow<'_, [u8]> {
    let inner = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else { return Cow::Borrowed(field) };
    if !inner.contains(&b'"') {
        return Cow::Borrowed(inner);
    }
    let mut escaped = false;
    let plain = inner.iter().copied().filter(|&byte| {
        escaped = byte == b'"' && !escaped;
        !escaped
    });
    Cow::Owned(plain.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated(row: &str, delimiter: u8) -> Vec<String> {
        let text = |field: Cow<'_, [u8]>| String::from_utf8(field.into_owned()).unwrap();
        Fields::of(row.as_bytes(), delimiter).map(text).collect()
    }

    fn fields(row: &str) -> Vec<String> {
        separated(row, b',')
    }

    #[test]
    fn any_character_may_separate_fields() {
        assert_eq!(separated("1,5; \"a;b\" ;c", b';'), ["1,5", "a;b", "c"]);
        assert_eq!(separated("a\t\t\"b\tc\"\t", b'\t'), ["a", "", "b\tc", ""]);
    }

    #[test]
    fn fields_are_unquoted_and_trimmed() {
        assert_eq!(fields("a, b ,,c"), ["a", "b", "", "c"]);
        assert_eq!(fields(""), [""]);
        assert_eq!(fields("1,\"@, T\", \"a\"\"b\" ,x"), ["1", "@, T", "a\"b", "x"]);
        assert_eq!(fields("\"\",\"\"\"\",\"a\nb\""), ["", "\"", "a\nb"]);
        assert_eq!(fields("5\" pipe,2"), ["5\" pipe", "2"]);
        assert_eq!(fields("\"open,2"), ["\"open,2"]);
    }
}
