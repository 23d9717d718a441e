//! A JSON object that is asked for its fields by name or by path.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;

type Object<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// A JSON object, read no further than its own fields.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct JsonRecord<'a>(#[serde(borrow)] Object<'a>);

/// A field is an object, an array, `true` or `false`: its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAText<'a>(pub &'a str);

impl<'a> JsonRecord<'a> {
    /// The text of a text, without white space around it, and a number digit for digit; `None`
    /// where there is no such field, or it is null or empty. A field of that very name comes before
    /// a path into an object, such as `data.price`.
    pub fn field(&self, name: &str) -> Result<Option<Cow<'a, str>>, NotAText<'a>> {
        let Some(value) = self.0.get(name).copied().or_else(|| inner(&self.0, name)) else {
            return Ok(None);
        };
        let json = value.get();
        let text = match json.as_bytes().first() {
            Some(b'n') => return Ok(None),
            Some(b'"') => text(json),
            Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(json)),
            _ => return Err(NotAText(json)),
        };
        Ok(text.map(trimmed).filter(|text| !text.is_empty()))
    }
}

/// Borrows where nothing is escaped.
fn text(json: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// The value at the end of a path.
fn inner<'a>(object: &Object<'a>, path: &str) -> Option<&'a RawValue> {
    let (first, rest) = path.split_once('.')?;
    let value: &'a RawValue = object.get(first).copied()?;
    let within: Object<'a> = serde_json::from_str(value.get()).ok()?;
    within.get(rest).copied().or_else(|| inner(&within, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> serde_json::Result<JsonRecord<'_>> {
        serde_json::from_slice(text)
    }

    #[test]
    fn fields_are_found_by_name_and_by_path() {
        let text =
            br#"{"s":" A\u0041 ","p":1.50,"n":null,"e":"","d":{"p":{"x":2}},"d.p.x":3,"o":[1]}"#;
        let record = read(text).unwrap();
        let field = |name| record.field(name).map(|text| text.map(Cow::into_owned));
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!((field("s"), field("p")), (some("AA"), some("1.50")));
        assert_eq!([field("n"), field("e"), field("none"), field("s.x")], [const { Ok(None) }; 4]);
        assert_eq!(field("d.p.x"), some("3"), "the very name comes first");
        assert_eq!(field("o"), Err(NotAText("[1]")));
        let inner = read(br#"{"d":{"p":{"x":2},"q.r":"4"}}"#).unwrap();
        assert_eq!(inner.field("d.p.x").unwrap().as_deref(), Some("2"));
        assert_eq!(inner.field("d.q.r").unwrap().as_deref(), Some("4"));
        assert_eq!(inner.field("d.p"), Err(NotAText(r#"{"x":2}"#)));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in [&b"[1]"[..], b"1", b"", b"{\"a\":1", b"{\"\xFF\":1}"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
