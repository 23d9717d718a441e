//! The header line of a CSV file, and what a replay needs of each row: its symbol and its time.
//!
//! Columns are named in any order and case; white space around a name or a field is not part of
//! it.

use jiff::Timestamp;
use schemas::Symbol;

use super::fields::Fields;

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The header line as it is.
    pub(super) columns: String,
    symbol: usize,
    time: Option<Time>,
}

/// The column that holds the event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// `ts_ms`: milliseconds since 1970.
    Millis(usize),
    /// `ts`: RFC 3339.
    Rfc3339(usize),
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
        let names: Vec<_> = Fields::of(line).collect();
        let column = |wanted: &str| {
            names.iter().position(|name| name.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        let Some(symbol) = column("symbol") else {
            return Err(format!("its header line {text:?} has no column \"symbol\""));
        };
        let time = column("ts_ms").map(Time::Millis).or_else(|| column("ts").map(Time::Rfc3339));
        if paced && time.is_none() {
            return Err(format!(
                "its header line {text:?} has no column \"ts_ms\", which only the speed `max` does without"
            ));
        }
        Ok(Self { columns: text.to_owned(), symbol, time })
    }

    /// The symbol of a row, if it can be read.
    pub(super) fn symbol(&self, row: &[u8]) -> Option<Symbol> {
        let field = Fields::of(row).nth(self.symbol)?;
        Symbol::new(std::str::from_utf8(&field).ok()?).ok()
    }

    /// The event time of a row in milliseconds since 1970, if it can be read.
    pub(super) fn event_ms(&self, row: &[u8]) -> Option<i64> {
        let time = self.time?;
        let (Time::Millis(column) | Time::Rfc3339(column)) = time;
        let field = Fields::of(row).nth(column)?;
        let text = std::str::from_utf8(&field).ok()?;
        match time {
            Time::Millis(_) => text.parse().ok(),
            Time::Rfc3339(_) => text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_in_any_order() {
        let header = Header::parse(b"price,\"Symbol\", TS_ms,ts", true).unwrap();
        assert_eq!(header.columns, "price,\"Symbol\", TS_ms,ts");
        let row = b"1.5, BRK.B , 1380000000123,x";
        assert_eq!(header.symbol(row), Some(Symbol::new("BRK.B").unwrap()));
        assert_eq!(header.event_ms(row), Some(1_380_000_000_123));
        let quoted = b"\"1,5\",\"A\"\"B\",\"7\"";
        assert_eq!(header.symbol(quoted), Some(Symbol::new("A\"B").unwrap()));
        assert_eq!(header.event_ms(quoted), Some(7));
        let written = Header::parse(b"ts,symbol", true).unwrap();
        assert_eq!(written.event_ms(b"1970-01-01T00:00:01.5Z,A"), Some(1_500));
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
        for row in [&b"1"[..], b"1,", b"1, ", b"1,\xFF", b"", b"1,\"A\nB\""] {
            assert_eq!(header.symbol(row), None, "{row:?}");
        }
        for row in [&b""[..], b"x,A", b"1.5,A", b",A", b"99999999999999999999,A"] {
            assert_eq!(header.event_ms(row), None, "{row:?}");
        }
    }
}
