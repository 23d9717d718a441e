//! A record as one JSON object.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ingest::archive::{Place, RawRecord};
use jiff::Timestamp;
use schemas::rfc3339_nanos;
use serde::{Deserialize, Serialize};

/// All of a record. The body is text where it is UTF-8, which JSON gives back byte for byte, and
/// base64 (RFC 4648, with padding) where it is not.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    #[serde(flatten)]
    envelope: Envelope<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// All but the body, whose length in bytes it tells.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    #[serde(flatten)]
    envelope: Envelope<'a>,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct Envelope<'a> {
    id: &'a str,
    source: Option<&'a str>,
    symbol: Option<&'a str>,
    received_at: String,
    content_type: Option<&'a str>,
    format: Option<&'a str>,
    columns: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_event: Option<&'a str>,
    subject: &'a str,
    raw_seq: u64,
}

impl<'a> Line<'a> {
    pub(super) fn of(record: &'a RawRecord) -> Self {
        let text = std::str::from_utf8(&record.body).ok();
        let base64 = text.is_none().then(|| STANDARD.encode(&record.body));
        Self { envelope: Envelope::of(record), body: text, body_base64: base64 }
    }
}

impl<'a> Summary<'a> {
    pub(super) fn of(record: &'a RawRecord) -> Self {
        Self { envelope: Envelope::of(record), bytes: record.body.len() }
    }
}

impl<'a> Envelope<'a> {
    fn of(record: &'a RawRecord) -> Self {
        Self {
            id: &record.id,
            source: record.source.as_deref(),
            symbol: record.symbol.as_deref(),
            received_at: rfc3339_nanos(record.received_at),
            content_type: record.content_type.as_deref(),
            format: record.format.as_deref(),
            columns: record.columns.as_deref(),
            retry_of: record.retry_of.as_deref(),
            retry_event: record.retry_event.as_deref(),
            subject: &record.subject,
            raw_seq: record.raw_seq,
        }
    }
}

/// The place of a line that was written.
pub(super) fn place(line: &[u8]) -> Result<Place, serde_json::Error> {
    #[derive(Deserialize)]
    struct Written {
        id: String,
        received_at: Timestamp,
    }
    let Written { id, received_at } = serde_json::from_slice(line)?;
    Ok(Place { received_at, id })
}
