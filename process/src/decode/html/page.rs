//! The tree of a page, as a browser would make it, of a bounded size.

use std::cell::Cell;

use html5ever::{
    interface::{TokenizerResult, TreeSink},
    tendril::StrTendril,
    tokenizer::{BufferQueue, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts},
    tree_builder::{TreeBuilder, TreeBuilderOpts},
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

/// So deep may elements stand in one another; [Chromium] makes no page deeper. What looks for an
/// element's ancestors, as selectors do and the parser itself, takes that much longer with each, and
/// so does the text of rows that stand in rows.
///
/// [Chromium]: https://chromium.googlesource.com/chromium/src/+/main/third_party/blink/renderer/core/html/parser/html_construction_site.cc
pub(super) const MAX_DEPTH: usize = 512;

/// So many attributes may a tag have, or a little more: the parser compares each with all before it.
/// They are counted as words, which a comment has, too.
const MAX_ATTRIBUTES: usize = 8_192;

/// So many bytes are parsed before the bounds are looked at again, or fewer.
const CHUNK_BYTES: usize = 4_096;

/// Why a page is not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error("the page has more than {0} elements and texts, many left open")]
    Nodes(usize),
    #[error("the elements of the page stand in one another more than {MAX_DEPTH} deep")]
    Depth,
    #[error("a tag of the page has more than {MAX_ATTRIBUTES} attributes, or a comment words")]
    Attributes,
}

/// Parses a page of at most [`max_nodes`], [`MAX_DEPTH`] and [`MAX_ATTRIBUTES`].
pub(super) fn parse(text: &str) -> Result<Html, TooMuch> {
    let max_nodes = max_nodes(text);
    let page = HtmlTreeSink::new(Html::new_document());
    let builder = TreeBuilder::new(page, TreeBuilderOpts::default());
    let tokens = Tokens { builder, came: Cell::new(false) };
    let tokenizer = Tokenizer::new(tokens, TokenizerOpts::default());
    let unread = BufferQueue::default();
    // Since the last token.
    let mut words = 0;
    // One tag at a time: it opens at most what is open, so there are never twice as many nodes.
    for chunk in text.split_inclusive('>').flat_map(chunks) {
        unread.push_back(StrTendril::from(chunk));
        while !matches!(tokenizer.feed(&unread), TokenizerResult::Done) {}
        words = if tokenizer.sink.came.take() { 0 } else { words + words_of(chunk) };
        if words > MAX_ATTRIBUTES {
            return Err(TooMuch::Attributes);
        }
        let page = tokenizer.sink.builder.sink.0.borrow();
        if page.tree.values().len() > max_nodes {
            return Err(TooMuch::Nodes(max_nodes));
        }
        // The newest stands in what is open.
        let newest = page.tree.nodes().next_back();
        if newest.is_some_and(|node| node.ancestors().nth(MAX_DEPTH).is_some()) {
            return Err(TooMuch::Depth);
        }
    }
    tokenizer.end();
    let page = tokenizer.sink.builder.sink.finish();
    // Elements that are closed in the wrong order are moved: the newest was not always the deepest.
    let too_deep = page.tree.nodes().any(|node| node.ancestors().nth(MAX_DEPTH).is_some());
    if too_deep { Err(TooMuch::Depth) } else { Ok(page) }
}

/// Makes the tree, and tells whether something came for it.
struct Tokens {
    builder: TreeBuilder<<HtmlTreeSink as TreeSink>::Handle, HtmlTreeSink>,
    came: Cell<bool>,
}

impl TokenSink for Tokens {
    type Handle = <HtmlTreeSink as TreeSink>::Handle;

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<Self::Handle> {
        // A fault may be within a tag.
        if !matches!(token, Token::ParseError(_)) {
            self.came.set(true);
        }
        self.builder.process_token(token, line)
    }

    fn end(&self) {
        self.builder.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.builder.adjusted_current_node_present_but_not_in_html_namespace()
    }
}

fn chunks(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = text.len().min(CHUNK_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (chunk, rest) = text.split_at(end);
        text = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// As many as the attributes of a tag, or more: each but the first follows one of these.
fn words_of(text: &str) -> usize {
    let separates = |byte: u8| matches!(byte, b'\t' | b'\n' | 0x0C | b'\r' | b' ' | b'/' | b'=');
    let mut before = false;
    text.bytes()
        .filter(|byte| {
            let (was, is) = (before, separates(*byte));
            before = is;
            is && !was
        })
        .count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_that_are_left_open_do_not_multiply_without_end() {
        let open: String = (0..400).map(|number| format!("<i id=a{number}>")).collect();
        // They are closed with their paragraph, and opened again in the next.
        let page = format!("<p>{open}{}", "<p>x".repeat(50_000));
        assert_eq!(parse(&page), Err(TooMuch::Nodes(max_nodes(&page))));
    }

    #[test]
    fn as_many_elements_as_can_be_written_are_read() {
        for text in ["<p>x", "<hr>", "<p><i>x</i>", "a<br>", "</p>", "<!---->"] {
            let page = text.repeat(10_000);
            let read = parse(&page);
            assert!(read == Ok(Html::parse_document(&page)), "{text}");
        }
        assert_eq!(parse(""), Ok(Html::parse_document("")));
    }

    #[test]
    fn elements_do_not_stand_in_one_another_without_end() {
        let deep = |levels: usize| "<div>".repeat(levels);
        // The document, its html and its body are above them.
        assert!(parse(&deep(MAX_DEPTH - 2)).is_ok());
        assert_eq!(parse(&deep(MAX_DEPTH)), Err(TooMuch::Depth));
        // Opened again in one another, and then moved down.
        let moved = "<b>".repeat(300) + "<p>" + &"<div></b>".repeat(400) + &"<p>x".repeat(50);
        assert_eq!(parse(&moved), Err(TooMuch::Depth));
    }

    #[test]
    fn a_tag_has_no_attributes_without_end() {
        let tag = |count: usize, attribute: fn(usize) -> String| {
            let attributes: String = (0..count).map(attribute).collect();
            format!("<p {attributes}>x")
        };
        let attributes: [fn(usize) -> String; 4] = [
            |number| format!("a{number} "),
            |number| format!("a{number}=\">\""),
            |number| format!("\"<{number}/"),
            |number| format!("a{number} = "),
        ];
        for attribute in attributes {
            assert!(parse(&tag(4_000, attribute)).is_ok());
            assert_eq!(parse(&tag(20_000, attribute)), Err(TooMuch::Attributes));
        }
        let many_tags = tag(4_000, attributes[0]).repeat(5);
        assert!(parse(&many_tags).is_ok());
        // A picture in an attribute, a script, and a text.
        let picture =
            "iVBORw0KGgoAAAANSUhEUgAAAAUAiVBORw0KGgoAAAANSUhEUgAAAAUA+AHHgmU/".repeat(6_000);
        let words = "one two ".repeat(40_000);
        for page in [
            format!("<img src='data:image/png;base64,{picture}'>"),
            format!("<script>{words}</script>"),
            words,
        ] {
            assert!(parse(&page) == Ok(Html::parse_document(&page)));
        }
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
            if let Ok(read) = parse(&page) {
                prop_assert_eq!(read, Html::parse_document(&page));
            }
        }
    }
}
