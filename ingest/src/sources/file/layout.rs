//! What a replay needs of each row: its symbol and its time, and where they are.

use schemas::{Format, JsonRecord, Records, RecordsError, Symbol, TimeFormat};

use super::fields::Fields;

/// What the fields of a file are called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) format: Format,
    pub(super) delimiter: u8,
    symbol: String,
    /// The field with the event time: the first of these that there is.
    times: Vec<(String, TimeFormat)>,
}

impl Names {
    /// As configured for the source, and otherwise those that `process` knows, too.
    pub(super) fn new(format: Format, records: Option<&Records>) -> Result<Self, RecordsError> {
        let Some(records) = records else {
            let millis = ("ts_ms".to_owned(), TimeFormat::MILLIS);
            let written = ("ts".to_owned(), TimeFormat::Rfc3339);
            let times = match format {
                Format::CsvRow => vec![millis, written],
                _ => vec![written],
            };
            return Ok(Self { format, delimiter: b',', symbol: "symbol".to_owned(), times });
        };
        Ok(Self {
            format,
            times: vec![(records.time.clone(), records.check()?)],
            delimiter: u8::try_from(records.delimiter).unwrap_or(b','),
            symbol: records.symbol.clone(),
        })
    }
}

/// Where the fields of a row are.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// In columns.
    Csv(Header),
    /// In a JSON object.
    Ndjson(Names),
}

/// The header line of a CSV file.
#[derive(Debug, Clone)]
pub(super) struct Header {
    line: String,
    delimiter: u8,
    symbol: usize,
    time: Option<(usize, TimeFormat)>,
}

impl Layout {
    /// The header line, where there is one.
    pub(super) fn columns(&self) -> Option<&str> {
        match self {
            Self::Csv(header) => Some(&header.line),
            Self::Ndjson(_) => None,
        }
    }

    /// The symbol of a row, as far as it can be read, and if `paced` its event time in milliseconds
    /// since 1970.
    pub(super) fn read(&self, row: &[u8], paced: bool) -> (Option<Symbol>, Option<i64>) {
        match self {
            Self::Csv(header) => {
                (header.symbol(row), if paced { header.event_ms(row) } else { None })
            }
            Self::Ndjson(names) => {
                let Ok(record) = serde_json::from_slice::<JsonRecord<'_>>(row) else {
                    return (None, None);
                };
                let text = |name: &str| record.field(name).ok().flatten();
                let symbol = text(&names.symbol).and_then(|text| Symbol::new(&text).ok());
                let mut times = names.times.iter().filter(|_| paced);
                let time = times.find_map(|(name, format)| event_ms(format, &text(name)?));
                (symbol, time)
            }
        }
    }
}

impl Header {
    /// Reads a header line; the error says what is wrong with it. `paced` is whether event times
    /// are needed.
    ///
    /// Columns are named in any order and case; white space around a name or a field is not part of
    /// it.
    pub(super) fn parse(line: &[u8], names: &Names, paced: bool) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|_| "its header line is not UTF-8")?;
        let is_foreign = |c: char| c.is_control() && c != char::from(names.delimiter);
        if text.contains(is_foreign) || text.len() > 4_096 {
            return Err("its first line is no header line of a CSV file".to_owned());
        }
        let columns: Vec<_> = Fields::of(line, names.delimiter).collect();
        let column = |wanted: &str| {
            columns.iter().position(|name| name.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        let Some(symbol) = column(&names.symbol) else {
            let wanted = &names.symbol;
            return Err(format!("its header line {text:?} has no column {wanted:?}"));
        };
        let mut times = names.times.iter();
        let time = times.find_map(|(name, format)| Some((column(name)?, format.clone())));
        if paced && time.is_none() {
            let wanted = names.times.first().map_or("", |(name, _)| name);
            return Err(format!(
                "its header line {text:?} has no column {wanted:?}, which only the speed `max` does without"
            ));
        }
        Ok(Self { line: text.to_owned(), delimiter: names.delimiter, symbol, time })
    }

    fn symbol(&self, row: &[u8]) -> Option<Symbol> {
        let field = Fields::of(row, self.delimiter).nth(self.symbol)?;
        Symbol::new(std::str::from_utf8(&field).ok()?).ok()
    }

    fn event_ms(&self, row: &[u8]) -> Option<i64> {
        let (column, format) = self.time.as_ref()?;
        let field = Fields::of(row, self.delimiter).nth(*column)?;
        event_ms(format, std::str::from_utf8(&field).ok()?)
    }
}

fn event_ms(format: &TimeFormat, text: &str) -> Option<i64> {
    format.read(text).ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(line: &[u8], paced: bool) -> Result<Header, String> {
        Header::parse(line, &Names::new(Format::CsvRow, None).unwrap(), paced)
    }

    fn desk() -> Records {
        Records {
            source: "file".into(),
            symbol: "data.Ticker".into(),
            time: "When".into(),
            time_format: "%d.%m.%Y %H:%M:%S".into(),
            time_zone: "Europe/Berlin".into(),
            delimiter: '\t',
            ..Records::default()
        }
    }

    #[test]
    fn columns_are_found_in_any_order() {
        let known = header(b"price,\"Symbol\", TS_ms,ts", true).unwrap();
        assert_eq!(known.line, "price,\"Symbol\", TS_ms,ts");
        let row = b"1.5, BRK.B , 1380000000123,x";
        assert_eq!(known.symbol(row), Some(Symbol::new("BRK.B").unwrap()));
        assert_eq!(known.event_ms(row), Some(1_380_000_000_123));
        let quoted = b"\"1,5\",\"A\"\"B\",\"7\"";
        assert_eq!(known.symbol(quoted), Some(Symbol::new("A\"B").unwrap()));
        assert_eq!(known.event_ms(quoted), Some(7));
        let written = header(b"ts,symbol", true).unwrap();
        assert_eq!(written.event_ms(b"1970-01-01T00:00:01.5Z,A"), Some(1_500));
        assert_eq!(header(b"symbol,price", false).unwrap().event_ms(b"A,1"), None);
    }

    #[test]
    fn columns_have_the_names_of_the_mapping() {
        let names = Names::new(Format::CsvRow, Some(&desk())).unwrap();
        let header = Header::parse(b"x\tDATA.ticker\twhen", &names, true).unwrap();
        let layout = Layout::Csv(header);
        let row = b"\tSAP\t07.10.2013 15:30:00";
        let sap = Symbol::new("SAP").ok();
        assert_eq!(layout.read(row, true), (sap.clone(), Some(1_381_152_600_000)));
        assert_eq!(layout.read(row, false), (sap, None));
        let fault = Header::parse(b"symbol\tts_ms", &names, true).unwrap_err();
        assert_eq!(fault, "its header line \"symbol\\tts_ms\" has no column \"data.Ticker\"");
    }

    #[test]
    fn fields_of_an_object_have_the_names_of_the_mapping() {
        let layout = Layout::Ndjson(Names::new(Format::Ndjson, Some(&desk())).unwrap());
        let read = |row: &str| layout.read(row.as_bytes(), true);
        let sap = Symbol::new("SAP").ok();
        let row = r#"{"When":"07.10.2013 15:30:00","data":{"Ticker":"SAP"}}"#;
        assert_eq!(read(row), (sap.clone(), Some(1_381_152_600_000)));
        assert_eq!(read(r#"{"When":7,"data.Ticker":"SAP"}"#), (sap, None));
        for row in ["", "[]", "7", r#"{"data":{"Ticker":["SAP"]}}"#, "{\"data\""] {
            assert_eq!(read(row), (None, None), "{row}");
        }
        let known = Layout::Ndjson(Names::new(Format::Ndjson, None).unwrap());
        let row = br#"{"symbol":"A","ts":"1970-01-01T00:00:01.5Z","ts_ms":7}"#;
        assert_eq!(known.read(row, true), (Symbol::new("A").ok(), Some(1_500)));
    }

    #[test]
    fn what_is_missing_is_named() {
        let fault = |line: &[u8], paced| header(line, paced).unwrap_err();
        assert_eq!(fault(b"a,b", false), "its header line \"a,b\" has no column \"symbol\"");
        assert!(fault(b"symbol,price", true).contains("no column \"ts_ms\""));
        assert_eq!(fault(b"\xFF\xFE", false), "its header line is not UTF-8");
        assert!(fault(b"PK\x03\x04", false).contains("no header line"));
    }

    #[test]
    fn a_row_that_cannot_be_read_has_no_symbol() {
        let header = header(b"ts_ms,symbol", true).unwrap();
        for row in [&b"1"[..], b"1,", b"1, ", b"1,\xFF", b"", b"1,\"A\nB\""] {
            assert_eq!(header.symbol(row), None, "{row:?}");
        }
        for row in [&b""[..], b"x,A", b"1x,A", b",A", b"99999999999999999999,A"] {
            assert_eq!(header.event_ms(row), None, "{row:?}");
        }
    }
}
