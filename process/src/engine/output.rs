//! The messages that go out, and what is read back from them.

use bytes::Bytes;
use nats::{Message, NewMessage};
use schemas::{
    Decimal, Reason, Rejection, Source, Symbol, Tick, event_index, headers, rfc3339_nanos, subject,
};

use crate::validate::Place;

/// The source in the subject of a payload whose envelope does not say.
const UNKNOWN_SOURCE: &str = "unknown";

/// The longest value of [`headers::ERROR`], in bytes.
const MAX_ERROR_BYTES: usize = 512;

/// The headers of a payload that its rejection repeats.
const REPEATED: [&str; 6] = [
    headers::SOURCE,
    headers::RECEIVED_AT,
    headers::CONTENT_TYPE,
    headers::FORMAT,
    headers::COLUMNS,
    "traceparent",
];

/// A tick for `TICKS`, of the `index`th event of its payload.
pub(super) fn tick(tick: &Tick, index: usize) -> NewMessage {
    let mut body = Vec::with_capacity(384);
    #[expect(clippy::expect_used, reason = "texts and numbers into memory: nothing that can fail")]
    serde_json::to_writer(&mut body, tick).expect("a tick is JSON");
    let mut headers = vec![
        (headers::MESSAGE_ID, tick.id.clone()),
        (headers::SOURCE, tick.source.as_str().to_owned()),
        (headers::RECEIVED_AT, rfc3339_nanos(tick.received_at)),
        (headers::CONTENT_TYPE, "application/json".to_owned()),
        (headers::RAW_SEQUENCE, tick.raw_seq.to_string()),
    ];
    // An id that the provider has given does not say where the event stood.
    if event_index(&tick.id) != Some(index) {
        headers.push((headers::EVENT, index.to_string()));
    }
    NewMessage { subject: subject::tick(&tick.symbol), headers, body: Bytes::from(body) }
}

/// The event that a rejection is about.
pub(super) struct Rejected<'a> {
    pub(super) id: &'a str,
    pub(super) index: usize,
    /// How many events there are in its payload.
    pub(super) count: usize,
    /// False where the payload stays in `TICKS_RAW` alone.
    pub(super) with_body: bool,
}

/// A rejection for `TICKS_REJECTED`: the payload unchanged, with the reason.
///
/// Its message id is the event's id with the payload's sequence after an `@`: a provider that sends
/// an event three times gets two rejections, and the stream must not drop the second as a repeat
/// of the first.
pub(super) fn rejection(raw: &Message, event: &Rejected<'_>, rejection: &Rejection) -> NewMessage {
    let Rejected { id: event_id, index, count, with_body } = *event;
    let mut headers = vec![
        (headers::MESSAGE_ID, format!("{event_id}@{}", raw.sequence)),
        (headers::REASON, rejection.reason.as_str().to_owned()),
        (headers::STAGE, rejection.stage.as_str().to_owned()),
        (headers::ERROR, header_line(&rejection.detail)),
        (headers::RAW_SEQUENCE, raw.sequence.to_string()),
        (headers::RAW_SUBJECT, raw.subject.clone()),
        (headers::EVENT, index.to_string()),
        (headers::EVENTS, count.to_string()),
    ];
    if !with_body {
        headers.push((headers::BODY, "left out".to_owned()));
    }
    if let Some((symbol, price)) = &rejection.price {
        headers.push((headers::SYMBOL, symbol.token().into_owned()));
        headers.push((headers::PRICE, price.to_string()));
    }
    let repeated = REPEATED.iter().filter_map(|name| Some((*name, raw.header(name)?.to_owned())));
    headers.extend(repeated);
    NewMessage {
        subject: rejection_subject(raw, rejection.reason),
        headers,
        body: if with_body { raw.body.clone() } else { Bytes::new() },
    }
}

/// The subject of a payload's rejection as poison.
pub(super) fn poison_subject(raw: &Message) -> String {
    rejection_subject(raw, Reason::Poison)
}

fn rejection_subject(raw: &Message, reason: Reason) -> String {
    let source = raw.header(headers::SOURCE).and_then(|name| Source::new(name).ok());
    let source = source.as_ref().map_or(UNKNOWN_SOURCE, Source::as_str);
    format!("ticks.rejected.{source}.{reason}")
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Tick(Box<Tick>),
    /// With whose price it was, where that is known.
    Rejection(Reason, Option<(Symbol, Decimal)>),
}

/// An event that is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) place: Place,
    pub(super) fate: Fate,
}

impl Stored {
    /// Reads what [`tick`] or [`rejection`] wrote; `None` for what somebody else did.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let id = message.header(headers::MESSAGE_ID)?;
        let raw_sequence = message.header(headers::RAW_SEQUENCE)?.parse().ok()?;
        let (event_id, fate) = match message.header(headers::REASON) {
            None => (id, Fate::Tick(serde_json::from_slice(&message.body).ok()?)),
            Some(name) => {
                let symbol = message.header(headers::SYMBOL).map(Symbol::from_token);
                let price = message.header(headers::PRICE).map(Decimal::parse);
                let price = symbol.and_then(Result::ok).zip(price.and_then(Result::ok));
                (id.rsplit_once('@')?.0, Fate::Rejection(Reason::from_name(name)?, price))
            }
        };
        let index = match message.header(headers::EVENT) {
            Some(index) => index.parse().ok()?,
            None => event_index(event_id)?,
        };
        let place = (raw_sequence, index);
        Some(Self { subject: message.subject.clone(), place, fate })
    }
}

/// One line of a header: no control characters, no outer white space, not too long.
fn header_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_ERROR_BYTES));
    for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > MAX_ERROR_BYTES {
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn raw(headers: &[(&str, &str)]) -> Message {
        Message {
            subject: "ticks.raw.sim.AAPL".into(),
            headers: headers.iter().copied().collect(),
            body: Bytes::from_static(b"\xFF\0 anything"),
            sequence: 7,
            stored_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn event(id: &str) -> Rejected<'_> {
        Rejected { id, index: 0, count: 1, with_body: true }
    }

    fn stored(message: NewMessage) -> Message {
        Message {
            subject: message.subject,
            headers: message.headers.into_iter().collect(),
            body: message.body,
            sequence: 1,
            stored_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_rejection_is_the_payload_with_the_reason() {
        let raw =
            raw(&[("Nats-Msg-Id", "e@1"), ("Lizards-Source", "sim"), ("Lizards-Format", "sim")]);
        let why = Rejection::decode(Reason::Malformed, "no\r\nJSON ");
        let message = stored(rejection(&raw, &event("e@1.0"), &why));
        assert_eq!(message.subject, "ticks.rejected.sim.malformed");
        assert_eq!(message.body, raw.body);
        for (name, value) in [
            ("Nats-Msg-Id", "e@1.0@7"),
            ("Lizards-Source", "sim"),
            ("Lizards-Format", "sim"),
            ("Lizards-Reason", "malformed"),
            ("Lizards-Stage", "decode"),
            ("Lizards-Error", "no  JSON"),
            ("Lizards-Raw-Seq", "7"),
            ("Lizards-Raw-Subject", "ticks.raw.sim.AAPL"),
        ] {
            assert_eq!(message.header(name), Some(value), "{name}");
        }
        let read = Stored::read(&message).unwrap();
        assert_eq!(read.place, (7, 0));
        assert_eq!(read.fate, Fate::Rejection(Reason::Malformed, None));
    }

    #[test]
    fn a_tick_is_read_back_whoever_gave_its_id() {
        let tick = |id: &str| Tick {
            id: id.to_owned(),
            symbol: Symbol::new("IBM").unwrap(),
            price: Decimal::parse("184.21").unwrap(),
            size: None,
            currency: "USD".to_owned(),
            exchange: None,
            kind: schemas::TickKind::Bar,
            ts: Timestamp::UNIX_EPOCH,
            received_at: Timestamp::UNIX_EPOCH,
            source: Source::new("yahoo").unwrap(),
            raw_seq: 7,
            flags: Vec::new(),
        };
        for id in ["e.3", "yahoo:IBM:1m:60:184.21", "yahoo:IBM:60"] {
            let message = stored(super::tick(&tick(id), 3));
            let read = Stored::read(&message).unwrap();
            assert_eq!(read.place, (7, 3), "{id}");
            assert_eq!(read.fate, Fate::Tick(Box::new(tick(id))));
        }
    }

    #[test]
    fn a_rejected_price_is_named_and_read_back() {
        let price = (Symbol::new("BRK.B").unwrap(), Decimal::parse("1.50").unwrap());
        let why = Rejection {
            price: Some(price.clone()),
            ..Rejection::validate(Reason::Outlier, "far away")
        };
        let event = Rejected { index: 3, ..event("e.3") };
        let message = stored(rejection(&raw(&[]), &event, &why));
        assert_eq!(message.header("Lizards-Symbol"), Some("BRK=2EB"));
        let read = Stored::read(&message).unwrap();
        assert_eq!(read.place, (7, 3));
        assert_eq!(read.fate, Fate::Rejection(Reason::Outlier, Some(price)));
    }

    #[test]
    fn a_rejection_without_its_payload_says_so() {
        let why = Rejection::decode(Reason::Malformed, "");
        let event = Rejected { index: 2, count: 501, with_body: false, ..event("e.2") };
        let message = stored(rejection(&raw(&[]), &event, &why));
        assert!(message.body.is_empty());
        assert_eq!(message.header("Lizards-Body"), Some("left out"));
        assert_eq!(message.header("Lizards-Event"), Some("2"));
        assert_eq!(message.header("Lizards-Events"), Some("501"));
    }

    #[test]
    fn the_subject_of_a_rejection_is_always_one_of_ours() {
        let why = Rejection::decode(Reason::Envelope, "");
        for headers in [&[][..], &[("Lizards-Source", "a.b>*")][..]] {
            let subject = rejection(&raw(headers), &event("x.0"), &why).subject;
            assert_eq!(subject, "ticks.rejected.unknown.envelope");
        }
    }

    #[test]
    fn an_error_is_cut_between_letters() {
        let line = header_line(&"ö".repeat(400));
        assert_eq!(line.len(), 512);
        let line = header_line(&format!("a{}", "ö".repeat(400)));
        assert_eq!(line.len(), 511);
    }
}
