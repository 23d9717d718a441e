//! The rows of a file, each as its exact bytes: of a CSV file (RFC 4180), where a quoted field may
//! hold line ends, or simply its lines.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

use super::fields::At;
use crate::outlet::MAX_PAYLOAD_BYTES;

const CHUNK_BYTES: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A row with line ends inside quotes may be this long. One that is longer has lost its closing
/// quote: it ends with its first line, so that it spoils no other.
const LONGEST_QUOTED_ROW: usize = 64 * 1024;

/// Splits a file into rows, without their line ends. Empty lines are none, and a byte order mark is
/// not part of the first.
///
/// A row that is too large to be published is cut, one byte above the limit. So memory is bounded
/// whatever the file is, and the row is still seen to be too large.
pub(super) struct Rows<R> {
    input: R,
    /// Of the fields of a CSV file, whose quotes count.
    delimiter: Option<u8>,
    buffer: BytesMut,
    begun: bool,
    ended: bool,
}

impl<R: Read> Rows<R> {
    /// Those of a CSV file.
    pub(super) fn csv(input: R, delimiter: u8) -> Self {
        Self { delimiter: Some(delimiter), ..Self::lines(input) }
    }

    /// The lines.
    pub(super) fn lines(input: R) -> Self {
        Self { input, delimiter: None, buffer: BytesMut::new(), begun: false, ended: false }
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.begun {
            while !self.ended && self.buffer.len() < BYTE_ORDER_MARK.len() {
                self.fill()?;
            }
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                let _ = self.buffer.split_to(BYTE_ORDER_MARK.len());
            }
            self.begun = true;
        }
        loop {
            if let Some(line) = self.line_end() {
                let next = (line + 1).min(self.buffer.len());
                let mut row = self.buffer.split_to(next);
                row.truncate(line);
                if row.last() == Some(&b'\r') {
                    row.truncate(line - 1);
                }
                if !row.is_empty() {
                    return Ok(Some(row.freeze()));
                }
            } else if self.ended {
                return Ok(None);
            } else if self.buffer.len() > MAX_PAYLOAD_BYTES {
                return self.cut().map(Some);
            } else {
                self.fill()?;
            }
        }
    }

    /// Where the first row in the buffer ends; `None` where more must be read to tell, and where
    /// nothing is left.
    fn line_end(&self) -> Option<usize> {
        let bytes = &self.buffer[..];
        let rest = (self.ended && !bytes.is_empty()).then_some(bytes.len());
        let line = bytes.iter().position(|&byte| byte == b'\n').or(rest)?;
        let Some(delimiter) = self.delimiter.filter(|_| bytes[..line].contains(&b'"')) else {
            return Some(line);
        };
        // Never further than that, however much is in the buffer: it must not depend on it.
        let head = &bytes[..bytes.len().min(LONGEST_QUOTED_ROW)];
        let too_long = bytes.len() > LONGEST_QUOTED_ROW;
        match quoted_end(head, delimiter) {
            Some(end) => Some(end),
            None if self.ended && !too_long && closes(bytes, delimiter) => Some(bytes.len()),
            None if self.ended || too_long => Some(line),
            None => None,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(filled + read.as_ref().map_or(0, |&read| read));
        self.ended = read? == 0;
        Ok(())
    }

    /// Takes the head of a row that is too large, and drops the rest of its line.
    fn cut(&mut self) -> io::Result<Bytes> {
        let head = self.buffer.split_to(MAX_PAYLOAD_BYTES + 1).freeze();
        loop {
            if let Some(line) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let _ = self.buffer.split_to(line);
                return Ok(head);
            }
            self.buffer.clear();
            if self.ended {
                return Ok(head);
            }
            self.fill()?;
        }
    }
}

/// Where the first row ends that has quotes: at the first line end outside of them.
fn quoted_end(bytes: &[u8], delimiter: u8) -> Option<usize> {
    let mut at = At::FieldStart;
    bytes.iter().position(|&byte| {
        let ends = byte == b'\n' && at != At::Quoted;
        at = at.after(byte, delimiter);
        ends
    })
}

/// Whether every quote is closed.
fn closes(bytes: &[u8], delimiter: u8) -> bool {
    bytes.iter().fold(At::FieldStart, |at, &byte| at.after(byte, delimiter)) != At::Quoted
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Gives its bytes in pieces, so that every row is cut somewhere.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            let (piece, rest) = self.0.split_at(count);
            into[..count].copy_from_slice(piece);
            self.0 = rest;
            Ok(count)
        }
    }

    fn in_pieces(text: &str, size: usize) -> Vec<String> {
        all(Rows::csv(Pieces(text.as_bytes(), size), b','))
    }

    fn all(mut rows: Rows<Pieces<'_>>) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            all.push(String::from_utf8(row.to_vec()).unwrap());
        }
        all
    }

    fn rows(text: &str) -> Vec<String> {
        let whole = in_pieces(text, usize::MAX);
        if text.len() < 1_000 {
            assert_eq!(in_pieces(text, 1), whole);
        }
        whole
    }

    #[test]
    fn a_row_does_not_depend_on_how_much_is_read_at_once() {
        let many = "2,b\n".repeat(LONGEST_QUOTED_ROW / 4 + 1_000);
        let text = format!("1,\"a\n{many}3,\"c\"\n");
        let all = in_pieces(&text, 1_000);
        assert_eq!(all.len(), LONGEST_QUOTED_ROW / 4 + 1_002);
        assert!(in_pieces(&text, usize::MAX) == all);
    }

    #[test]
    fn the_lines_of_a_file_without_quotes() {
        let text = "\u{FEFF}{\"a\":\"b\"\r\n\n{\"c\n\u{FEFF}d";
        for size in [1, 2, 1_000] {
            let lines = all(Rows::lines(Pieces(text.as_bytes(), size)));
            assert_eq!(lines, ["{\"a\":\"b\"", "{\"c", "\u{FEFF}d"]);
        }
    }

    proptest! {
        /// However it is read.
        #[test]
        fn rows_do_not_depend_on_the_reads(
            parts in vec(select(vec![
                "a", ",", ";", "\"", "\"\"", "\n", "\r\n", "\r", " ", "\u{FEFF}", "{\"x\":1}",
            ]), 0..60),
            sizes in vec(1..9_usize, 1..9),
            csv in any::<bool>(),
        ) {
            let text = parts.concat();
            let rows = |size| {
                let input = Pieces(text.as_bytes(), size);
                all(if csv { Rows::csv(input, b';') } else { Rows::lines(input) })
            };
            let whole = rows(usize::MAX);
            for size in sizes {
                prop_assert_eq!(rows(size), whole.clone());
            }
            // Nothing is lost but line ends and the mark at the beginning.
            let bare = |text: &str| text.replace(['\r', '\n'], "");
            let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
            prop_assert_eq!(bare(&whole.concat()), bare(text));
        }
    }

    #[test]
    fn rows_are_their_exact_bytes_without_the_line_end() {
        assert_eq!(rows("a,b\n1, 2 \n"), ["a,b", "1, 2 "]);
        assert_eq!(rows("a,b\r\n1,2\r\n\r\n\n3,4"), ["a,b", "1,2", "3,4"]);
        assert_eq!(rows(""), [""; 0]);
        assert_eq!(rows("\n\r\n"), [""; 0]);
        assert_eq!(rows("a\rb\nc"), ["a\rb", "c"]);
    }

    #[test]
    fn quotes_may_hold_line_ends_commas_and_quotes() {
        assert_eq!(rows("1,\"a,\n\"\"b\"\"\"\n2,c\n"), ["1,\"a,\n\"\"b\"\"\"", "2,c"]);
        assert_eq!(rows("1,\"a\nb\""), ["1,\"a\nb\""]);
        assert_eq!(rows("\"a\r\nb\",2\r\n3"), ["\"a\r\nb\",2", "3"]);
    }

    #[test]
    fn a_stray_quote_spoils_only_its_own_row() {
        assert_eq!(rows("1,5\" pipe\n2,b\n"), ["1,5\" pipe", "2,b"]);
        assert_eq!(rows("1,\"a\n2,b\n3,c"), ["1,\"a", "2,b", "3,c"]);
        let many = "2,b\n".repeat(LONGEST_QUOTED_ROW);
        let all = rows(&format!("1,\"a\n{many}"));
        assert_eq!(all.len(), 1 + LONGEST_QUOTED_ROW);
        assert_eq!((all[0].as_str(), all[1].as_str()), ("1,\"a", "2,b"));
    }

    #[test]
    fn a_row_that_is_too_large_is_cut_and_the_next_one_is_whole() {
        let large = "x".repeat(3 * MAX_PAYLOAD_BYTES);
        let all = rows(&format!("1\n{large}\n2\n{large}"));
        assert_eq!(
            all.iter().map(String::len).collect::<Vec<_>>(),
            [1, MAX_PAYLOAD_BYTES + 1, 1, MAX_PAYLOAD_BYTES + 1,]
        );
    }
}
