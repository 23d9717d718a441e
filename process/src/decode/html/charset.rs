//! The characters of a page, from its bytes: as a byte order mark says, else the `Content-Type`, else
//! the page's own `<meta>`, else as UTF-8. After "determining the character encoding",
//! <https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding>, without
//! its guesses.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// How much of a page may come before its `<meta>`.
const PRESCAN_BYTES: usize = 1_024;

/// Stands where bytes are no characters.
pub(super) const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// The text of a page; what cannot be read of it is [`REPLACEMENT`].
pub(super) fn text<'a>(body: &'a [u8], content_type: &str) -> Cow<'a, str> {
    let named = label(content_type.as_bytes()).or_else(|| in_page(body)).unwrap_or(UTF_8);
    // It looks for a byte order mark first.
    named.decode(body).0
}

/// The encoding that a `<meta>` names, which is a superset of ASCII or this could not be read.
fn in_page(body: &[u8]) -> Option<&'static Encoding> {
    let head = &body[..body.len().min(PRESCAN_BYTES)];
    let mut tags = head.split(|byte| *byte == b'<').skip(1);
    let encoding = tags.find_map(|tag| {
        let is_meta = tag.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"meta"));
        let tag = tag.split(|byte| *byte == b'>').next().unwrap_or_default();
        if is_meta { label(tag) } else { None }
    })?;
    if [UTF_16BE, UTF_16LE].contains(&encoding) { Some(UTF_8) } else { Some(encoding) }
}

/// The encoding of the first `charset=` that names one.
fn label(text: &[u8]) -> Option<&'static Encoding> {
    const NAME: &[u8] = b"charset";
    let at = text.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME))?;
    let value = text[at + NAME.len()..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value);
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"\"';/>".contains(byte);
    Encoding::for_label(&value[..value.iter().position(is_end).unwrap_or(value.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_says() {
        for (body, content_type, expected) in [
            (&b"5 \x80"[..], "text/html; charset=windows-1252", "5 €"),
            (b"5 \x80", "text/html; Charset=\"CP1252\"; x=y", "5 €"),
            (b"<meta charset=windows-1252>5 \x80", "text/html", "<meta charset=windows-1252>5 €"),
            (
                b"<p><META http-equiv=Content-Type content='text/html; charset = iso-8859-15'>\xa4",
                "text/html",
                "<p><META http-equiv=Content-Type content='text/html; charset = iso-8859-15'>€",
            ),
            (b"\x8a\xbf", "text/html; charset=shift_jis", "漢"),
            ("5 €".as_bytes(), "text/html", "5 €"),
            ("<meta charset=utf-16>5 €".as_bytes(), "", "<meta charset=utf-16>5 €"),
            ("\u{feff}5 €".as_bytes(), "text/html; charset=windows-1252", "5 €"),
            (b"\xff\xfe5\0", "text/html", "5"),
            ("5 €".as_bytes(), "text/html; charset=klingon", "5 €"),
            (b"5 \x80", "text/html", "5 \u{fffd}"),
            (b"<p charset=windows-1252>\x80", "", "<p charset=windows-1252>\u{fffd}"),
            (b"charset", "charset", "charset"),
            (b"", "charset=", ""),
        ] {
            assert_eq!(text(body, content_type), expected, "{content_type}");
        }
    }
}
