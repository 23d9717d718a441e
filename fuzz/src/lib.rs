//! What every decoder must keep, whatever the bytes: it does not panic, every event of a payload is a
//! tick or a rejection, and neither their number nor their size grows without end.

mod events;

use bytes::Bytes;
use jiff::Timestamp;
use process::Outcome;
use schemas::{Format, RawTick, Source, Symbol};

/// More than a payload may hold.
const MAX_EVENTS: usize = 20_000;

/// The texts of the events may take so many times the payload, for what is escaped in an error, and
/// so many bytes for each event, for what an error says and what all of a payload share.
const TIMES: usize = 8;
const BYTES_AN_EVENT: usize = 1_024;

/// Decodes the bytes as a payload of that format.
pub fn decode(format: Format, body: &[u8]) {
    let source = if format == Format::Html { "html:fuzz" } else { "push:fuzz" };
    let raw = RawTick {
        id: "fuzz".into(),
        source: Source::new(source).expect("it names a source"),
        symbol: (format == Format::FinnhubQuote).then(|| Symbol::new("A").expect("it is a symbol")),
        received_at: Timestamp::UNIX_EPOCH,
        content_type: "application/octet-stream".into(),
        format,
        columns: (format == Format::CsvRow).then(|| "ts_ms,symbol,price,size,exchange".into()),
        body: Bytes::copy_from_slice(body),
    };
    let Outcome { ticks, rejected, bytes } =
        process::outcome(&raw).expect("the site of the targets works");
    let events = ticks + rejected;
    assert!((1..=MAX_EVENTS).contains(&events), "{ticks} ticks, {rejected} rejections");
    let whole = (ticks, rejected) == (0, 1);
    let expected = events::of(format, body);
    assert!(whole || expected.contains(&events), "{events} events, not {expected:?}");
    let most = TIMES * body.len() + BYTES_AN_EVENT * events;
    assert!(bytes <= most, "{events} events of {bytes} bytes, from {}", body.len());
}
