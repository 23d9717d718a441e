//! What the archive keeps of a raw message.

use bytes::Bytes;
use jiff::Timestamp;
use nats::Message;
use schemas::{headers, subject};

/// A raw message as it is archived: its payload byte for byte and its envelope, letter for letter.
///
/// Nothing about it is checked: what the processing rejects is archived like everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// The message id; where a message has none, its stream and its sequence.
    pub id: String,
    /// The source it came from, where its envelope says so.
    pub source: Option<String>,
    /// The symbol it is about; `None` where it is about many, or its subject says nothing.
    pub symbol: Option<String>,
    /// When it was received; where its envelope does not say, when the stream stored it.
    pub received_at: Timestamp,
    /// The media type of the body, as its provider named it.
    pub content_type: Option<String>,
    /// Which decoder reads it: see [`Format`](schemas::Format).
    pub format: Option<String>,
    /// The column names of a CSV row.
    pub columns: Option<String>,
    /// The id of the payload that this one is once more, if it is.
    pub retry_of: Option<String>,
    /// The number of the only event of that payload that is meant, where not all are.
    pub retry_event: Option<String>,
    /// The subject it was published to.
    pub subject: String,
    /// Its sequence in `TICKS_RAW`.
    pub raw_seq: u64,
    /// The payload.
    pub body: Bytes,
}

impl From<Message> for RawRecord {
    fn from(message: Message) -> Self {
        let header =
            |name| message.header(name).filter(|value| !value.is_empty()).map(str::to_owned);
        Self {
            id: header(headers::MESSAGE_ID)
                .unwrap_or_else(|| format!("{}:{}", subject::TICKS_RAW, message.sequence)),
            source: header(headers::SOURCE),
            symbol: subject::symbol_of_raw(&message.subject).map(|symbol| symbol.to_string()),
            received_at: message
                .header(headers::RECEIVED_AT)
                .and_then(|time| time.parse().ok())
                .unwrap_or(message.stored_at),
            content_type: header(headers::CONTENT_TYPE),
            format: header(headers::FORMAT),
            columns: header(headers::COLUMNS),
            retry_of: header(headers::RETRY_OF),
            retry_event: header(headers::RETRY_EVENT),
            raw_seq: message.sequence,
            subject: message.subject,
            body: message.body,
        }
    }
}

#[cfg(test)]
mod tests {
    use nats::Headers;
    use schemas::{Format, RawTick, Source, Symbol};

    use super::*;

    fn message(subject: &str, headers: Headers) -> Message {
        Message {
            subject: subject.into(),
            headers,
            body: Bytes::from_static(b"\xff\x00body"),
            sequence: 7,
            stored_at: "2024-01-02T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_envelope_is_kept_whole() {
        let raw = RawTick {
            id: "file:3f:17".into(),
            source: Source::new("file").unwrap(),
            symbol: Some(Symbol::new("BRK.B").unwrap()),
            received_at: "2024-01-01T00:00:00.123456789Z".parse().unwrap(),
            content_type: "text/csv".into(),
            format: Format::CsvRow,
            columns: Some("ts_ms,symbol,price".into()),
            body: Bytes::new(),
        };
        let retry = [(headers::RETRY_OF, "file:3f:4"), (headers::RETRY_EVENT, "2")];
        let retry = retry.map(|(name, value)| (name, value.to_owned()));
        let headers = raw.headers().into_iter().chain(retry).collect();
        let subject = subject::raw(&raw.source, raw.symbol.as_ref());
        let record = RawRecord::from(message(&subject, headers));
        assert_eq!(record.id, "file:3f:17");
        assert_eq!(record.source.as_deref(), Some("file"));
        assert_eq!(record.symbol.as_deref(), Some("BRK.B"));
        assert_eq!(record.received_at, raw.received_at);
        assert_eq!(record.content_type.as_deref(), Some("text/csv"));
        assert_eq!(record.format.as_deref(), Some("csv-row"));
        assert_eq!(record.columns, raw.columns);
        assert_eq!(record.retry_of.as_deref(), Some("file:3f:4"));
        assert_eq!(record.retry_event.as_deref(), Some("2"));
        assert_eq!(record.subject, "ticks.raw.file.BRK=2EB");
        assert_eq!(record.raw_seq, 7);
        assert_eq!(record.body, Bytes::from_static(b"\xff\x00body"));
    }

    #[test]
    fn a_message_without_a_readable_envelope_is_kept_all_the_same() {
        let unreadable = [(headers::MESSAGE_ID, ""), (headers::RECEIVED_AT, "noon")];
        let unreadable = unreadable.into_iter().collect();
        let record = RawRecord::from(message("ticks.raw.who.knows.what", unreadable));
        assert_eq!(record.id, "TICKS_RAW:7");
        assert_eq!((record.source, record.symbol, record.format), (None, None, None));
        assert_eq!(record.received_at, "2024-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(record.body, Bytes::from_static(b"\xff\x00body"));
    }
}
