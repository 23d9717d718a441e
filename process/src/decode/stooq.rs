//! The CSV of Stooq's newest quotes: <https://stooq.com/q/l/>.
//!
//! One line per symbol after the header, in any order of columns. Date and time are those of Warsaw,
//! whatever the exchange. A symbol that Stooq does not know, or that was not traded, has `N/D` in
//! every column.

use csv::ByteRecord;
use jiff::tz::TimeZone;
use schemas::{Rejection, TickKind};

use super::{
    Decoded, Event, MAX_EVENTS,
    bars::{self, Row},
    columns::{self, Columns},
    invalid, malformed, missing, text, too_many,
};

/// Where Stooq's clocks are.
const ZONE: &str = "Europe/Warsaw";

const COLUMNS: [&str; 5] = ["Symbol", "Date", "Time", "Close", "Volume"];

/// What stands for nothing.
const NO_DATA: &str = "N/D";

pub(super) fn decode(body: &[u8], currency: &str, events: &mut Vec<Event>) {
    let before = events.len();
    let mut lines = columns::lines(body);
    let Some(Ok(header)) = lines.next() else {
        return events.push(Err(malformed("it has no header")));
    };
    let columns = &Columns::find(&header, COLUMNS);
    let zone = match bars::zone("time zone", ZONE) {
        Ok(zone) => zone,
        Err(rejection) => return events.push(Err(rejection)),
    };
    for (row, line) in (1..).zip(lines) {
        if row > MAX_EVENTS {
            events.truncate(before);
            return events.push(Err(too_many("lines")));
        }
        events.push(match line {
            Ok(fields) => Line { columns, fields, row: Row(row) }.event(&zone, currency),
            Err(fault) => Err(malformed(format!("it is not CSV: {fault}{}", Row(row)))),
        });
    }
    if events.len() == before {
        events.push(Err(malformed("it has no line after its header")));
    }
}

struct Line<'a> {
    columns: &'a Columns<'a>,
    fields: ByteRecord,
    row: Row,
}

impl Line<'_> {
    fn event(&self, zone: &TimeZone, currency: &str) -> Event {
        let symbol = text::symbol("Symbol", &self.row, self.required("Symbol")?)?;
        let price = text::number("Close", &self.row, self.required("Close")?)?;
        let (date, time) = (self.required("Date")?, self.required("Time")?);
        let ts = bars::local_time("Time", &self.row, &format!("{date} {time}"), zone)?;
        let size = self.optional("Volume")?;
        let size = size.map(|size| text::number("Volume", &self.row, size)).transpose()?;
        Ok(Decoded {
            identity: Some(bars::identity("quote", ts, &price, size.as_ref())),
            symbol,
            price,
            size,
            currency: currency.to_owned(),
            exchange: None,
            kind: TickKind::Quote,
            ts,
        })
    }

    fn required(&self, name: &str) -> Result<&str, Rejection> {
        match self.text(name)? {
            Some(NO_DATA) => Err(missing(name, &format!(": Stooq has no data{}", self.row))),
            Some(text) => Ok(text),
            None => Err(missing(name, &self.row)),
        }
    }

    fn optional(&self, name: &str) -> Result<Option<&str>, Rejection> {
        Ok(self.text(name)?.filter(|text| *text != NO_DATA))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Rejection> {
        let text = self.columns.text(name, &self.fields);
        text.map_err(|_| invalid(name, &self.row, "it is not UTF-8"))
    }
}
