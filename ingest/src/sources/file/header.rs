//! The header line of a CSV file, and the two columns that a replay needs of each row.

use std::borrow::Cow;

use schemas::Symbol;

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The header line as it is.
    pub(super) columns: String,
    symbol: usize,
    ts_ms: Option<usize>,
}

impl Header {
    /// Reads a header line; the error says what is wrong with it. `paced` is whether event times
    /// are needed.
    pub(super) fn parse(line: &[u8], paced: bool) -> Result<Self, String> {
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| "its header line is not UTF-8")?;
        if text.contains(char::is_control) || text.len() > 4_096 {
            return Err("its first line is no header line of a CSV file".to_owned());
        }
        let names = fields(line);
        let column =
            |wanted: &str| names.iter().position(|name| name.as_ref() == wanted.as_bytes());
        let Some(symbol) = column("symbol") else {
            return Err(format!("its header line {text:?} has no column \"symbol\""));
        };
        let ts_ms = column("ts_ms");
        if paced && ts_ms.is_none() {
            return Err(format!(
                "its header line {text:?} has no column \"ts_ms\", which only the speed `max` does without"
            ));
        }
        Ok(Self { columns: text.to_owned(), symbol, ts_ms })
    }

    /// The symbol of a row, if it can be read.
    pub(super) fn symbol(&self, row: &[u8]) -> Option<Symbol> {
        Symbol::new(std::str::from_utf8(&field(row, self.symbol)?).ok()?).ok()
    }

    /// The event time of a row in milliseconds since 1970, if it can be read.
    pub(super) fn event_ms(&self, row: &[u8]) -> Option<i64> {
        std::str::from_utf8(&field(row, self.ts_ms?)?).ok()?.trim().parse().ok()
    }
}

/// One field of a row.
fn field(row: &[u8], index: usize) -> Option<Cow<'_, [u8]>> {
    if row.contains(&b'"') {
        return fields(row).into_iter().nth(index);
    }
    row.split(|&byte| byte == b',').nth(index).map(Cow::Borrowed)
}

/// All fields of a row, unquoted.
fn fields(row: &[u8]) -> Vec<Cow<'_, [u8]>> {
    if !row.contains(&b'"') {
        return row.split(|&byte| byte == b',').map(Cow::Borrowed).collect();
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(row);
    let mut record = csv::ByteRecord::new();
    // Reading from memory does not fail, and bytes need not be UTF-8.
    let _ = reader.read_byte_record(&mut record);
    record.iter().map(|field| Cow::Owned(field.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_in_any_order() {
        let header = Header::parse(b"price,\"symbol\",ts_ms,extra", true).unwrap();
        assert_eq!(header.columns, "price,\"symbol\",ts_ms,extra");
        let row = b"1.5,BRK.B, 1380000000123,x";
        assert_eq!(header.symbol(row), Some(Symbol::new("BRK.B").unwrap()));
        assert_eq!(header.event_ms(row), Some(1_380_000_000_123));
        let quoted = b"\"1,5\",\"A\"\"B\",\"7\"";
        assert_eq!(header.symbol(quoted), Some(Symbol::new("A\"B").unwrap()));
        assert_eq!(header.event_ms(quoted), Some(7));
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_a_name() {
        let header = Header::parse(b"\xEF\xBB\xBFsymbol,price", false).unwrap();
        assert_eq!(header.columns, "symbol,price");
        assert_eq!(header.event_ms(b"A,1"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let fault = |line: &[u8], paced| Header::parse(line, paced).unwrap_err();
        assert_eq!(fault(b"a,b", false), "its header line \"a,b\" has no column \"symbol\"");
        assert!(fault(b"symbol,price", true).contains("no column \"ts_ms\""));
        assert_eq!(fault(b"\xFF\xFE", false), "its header line is not UTF-8");
        assert!(fault(b"PK\x03\x04", false).contains("no header line"));
    }

    #[test]
    fn a_row_that_cannot_be_read_has_no_symbol() {
        let header = Header::parse(b"ts_ms,symbol", true).unwrap();
        for row in [&b"1"[..], b"1,", b"1, A", b"1,\xFF", b"", b"1,\"A\nB\""] {
            assert_eq!(header.symbol(row), None, "{row:?}");
        }
        for row in [&b""[..], b"x,A", b"1.5,A", b",A", b"99999999999999999999,A"] {
            assert_eq!(header.event_ms(row), None, "{row:?}");
        }
    }
}
