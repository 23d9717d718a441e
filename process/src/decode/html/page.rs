//! The tree of a page, as a browser would make it, of a bounded size.

use html5ever::{
    driver::{self, ParseOpts},
    tendril::{StrTendril, TendrilSink},
};
use scraper::{Html, HtmlTreeSink};

/// What every page has, be it empty: the document, and the elements that are always there.
const ALWAYS: usize = 16;

/// So many elements and texts may be made of a page. What is written takes two characters for each
/// (`<p>x` makes two of four); more are made by elements that are left open, which a browser
/// [opens again] in every paragraph that follows: some kilobytes of them would take gigabytes.
///
/// [opens again]: https://html.spec.whatwg.org/multipage/parsing.html#reconstruct-the-active-formatting-elements
pub(super) fn max_nodes(text: &str) -> usize {
    text.len() / 2 + ALWAYS
}

/// Parses a page; nothing where it would make more than [`max_nodes`].
pub(super) fn parse(text: &str) -> Option<Html> {
    let max_nodes = max_nodes(text);
    let sink = HtmlTreeSink::new(Html::new_document());
    let mut parser = driver::parse_document(sink, ParseOpts::default());
    // One tag at a time: it opens at most what is open, so there are never twice as many.
    for piece in text.split_inclusive('>') {
        parser.process(StrTendril::from(piece));
        if parser.tokenizer.sink.sink.0.borrow().tree.values().len() > max_nodes {
            return None;
        }
    }
    Some(parser.finish())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_that_are_left_open_do_not_multiply_without_end() {
        let open: String = (0..5_000).map(|number| format!("<i id=a{number}>")).collect();
        // They are closed with their paragraph, and opened again in the next.
        let page = format!("<p>{open}{}", "<p>x".repeat(50_000));
        assert!(parse(&page).is_none());
    }

    #[test]
    fn as_many_elements_as_can_be_written_are_read() {
        for text in ["<p>x", "<i>", "<table><td>x", "a<br>", "<b><p>x</b>", "</p>", "<!---->"] {
            let page = text.repeat(10_000);
            let read = parse(&page);
            assert_eq!(read, Some(Html::parse_document(&page)), "{text}");
        }
        assert_eq!(parse(""), Some(Html::parse_document("")));
    }

    proptest! {
        /// In pieces a page is what it is as a whole.
        #[test]
        fn a_page_is_parsed_as_the_library_does(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "<table>", "<tr>", "<td class=\"a > b\">", "</td>", "<b>", "</b>", "<p>", "x > y",
                    "<script>if (a > b) {}</script>", "<!-- > -->", "&amp;", "é", "\r\n", "<", "\0",
                    "<textarea>", "<svg>", "<![CDATA[>]]>", "<!doctype html>", "</table>",
                ]),
                0..60,
            )
        ) {
            let page = pieces.concat();
            if let Some(read) = parse(&page) {
                prop_assert_eq!(read, Html::parse_document(&page));
            }
        }
    }
}
