//! What every decoder must keep, whatever the bytes: it does not panic, something comes of every
//! payload, and no payload becomes more events than it may.

use bytes::Bytes;
use jiff::Timestamp;
use schemas::{Format, RawTick, Source, Symbol};

/// More than a payload may hold, and not much more than its bytes.
const MAX_EVENTS: usize = 20_000;

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
    let counted = process::count_events(&raw).expect("the site of the targets works");
    let (ticks, rejected) = counted;
    assert!((1..=MAX_EVENTS).contains(&(ticks + rejected)), "{ticks} ticks, {rejected} rejections");
}
