//! Messages as AMQP carries them.

use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use schemas::headers;

use super::session::{short, table, text};
use crate::{BrokerError, Headers, Message, NewMessage};

/// The header with the session that an exclusive publisher writes in: see `fence`.
pub(super) const SESSION: &str = "Lizards-Session";
/// The header with the time at which the publisher sent the message, in nanoseconds since 1970:
/// streams tell no time to AMQP 0-9-1, and AMQP's own timestamp counts seconds.
const SENT_AT: &str = "Lizards-Sent-At";
/// The header of a message that is no message of the stream, but says something about it.
const CONTROL: &str = "Lizards-Control";
/// The value of [`CONTROL`] of a marker: see `scan`.
const MARKER: &str = "marker";
/// The header by which RabbitMQ tells a message's place in its stream, from 0 on.
const OFFSET: &str = "x-stream-offset";

const PERSISTENT: u8 = 2;

/// One entry of a stream.
#[derive(Debug)]
pub(super) struct Entry {
    /// What the delivery is acknowledged by.
    pub(super) tag: u64,
    /// Its place in the stream, from 0 on.
    pub(super) offset: u64,
    /// What it is.
    pub(super) content: Content,
}

/// What a stream holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A message.
    Message(Message),
    /// A marker.
    Marker {
        /// Its id.
        id: String,
        /// What it says; mostly nothing.
        note: String,
    },
}

/// The properties that carry a message's headers, its id and its time.
pub(super) fn properties(
    message: &NewMessage,
    session: Option<&str>,
) -> Result<BasicProperties, BrokerError> {
    let now = Timestamp::now();
    let mut table = FieldTable::default();
    for (name, value) in &message.headers {
        table.insert(short(*name)?, text(value.as_str()));
    }
    if let Some(session) = session {
        table.insert(short(SESSION)?, text(session));
    }
    // Nanoseconds since 1970 fit 63 bits until the year 2262.
    let nanoseconds = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    table.insert(short(SENT_AT)?, AMQPValue::LongLongInt(nanoseconds));
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(u64::try_from(now.as_second()).unwrap_or_default())
        .with_headers(table);
    let id = message.headers.iter().find(|(name, _)| *name == headers::MESSAGE_ID);
    // An id too long for the property is still complete in its header.
    Ok(match id.map(|(_, id)| short(id.as_str())) {
        Some(Ok(id)) => properties.with_message_id(id),
        _ => properties,
    })
}

/// The properties of a marker.
pub(super) fn marker(id: &str) -> Result<BasicProperties, BrokerError> {
    Ok(BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(id)?)
        .with_headers(table([(CONTROL, text(MARKER))])?))
}

/// Reads a delivery of a stream.
pub(super) fn entry(delivery: Delivery) -> Result<Entry, BrokerError> {
    let properties = delivery.properties;
    let table = properties.headers().clone().unwrap_or_default();
    let offset = table
        .inner()
        .get(OFFSET)
        .and_then(integer)
        .and_then(|offset| u64::try_from(offset).ok())
        .ok_or_else(|| {
            BrokerError::Refused(format!("a delivery has no {OFFSET}: its queue is no stream"))
        })?;
    if table.contains_key(CONTROL) {
        let id = properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        let note = String::from_utf8_lossy(&delivery.data).into_owned();
        let content = Content::Marker { id, note };
        return Ok(Entry { tag: delivery.delivery_tag, offset, content });
    }
    let message = Message {
        subject: delivery.routing_key.to_string(),
        stored_at: sent_at(&table, *properties.timestamp()),
        headers: readable(&table),
        body: Bytes::from(delivery.data),
        sequence: offset + 1,
    };
    Ok(Entry { tag: delivery.delivery_tag, offset, content: Content::Message(message) })
}

/// The publisher's headers, without those that serve the transport.
fn readable(table: &FieldTable) -> Headers {
    table
        .into_iter()
        .filter(|(name, _)| ![SESSION, SENT_AT, OFFSET].contains(&name.as_str()))
        .filter_map(|(name, value)| match value {
            AMQPValue::LongString(value) => Some((name.to_string(), value.to_string())),
            _ => None,
        })
        .collect()
}

/// When it was sent; of a foreign message AMQP's timestamp, or 1970 where it has none.
fn sent_at(table: &FieldTable, seconds: Option<u64>) -> Timestamp {
    let exact = table
        .inner()
        .get(SENT_AT)
        .and_then(integer)
        .and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds.into()).ok());
    let rough = || Timestamp::from_second(i64::try_from(seconds?).ok()?).ok();
    exact.or_else(rough).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::LongLongInt(value) => Some(*value),
        AMQPValue::LongInt(value) => Some((*value).into()),
        AMQPValue::LongUInt(value) => Some((*value).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(properties: BasicProperties, body: &[u8], offset: i64) -> Delivery {
        let mut delivery =
            Delivery::mock(7, "lizards".into(), "ticks.norm.BRK=2EB".into(), false, body.to_vec());
        let mut table = properties.headers().clone().unwrap_or_default();
        table.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
        delivery.properties = properties.with_headers(table);
        delivery
    }

    #[test]
    fn a_message_comes_back_as_it_was_written() {
        let message = NewMessage {
            subject: "ticks.norm.BRK=2EB".to_owned(),
            headers: vec![(headers::MESSAGE_ID, "id".repeat(200)), (headers::SOURCE, "sïm".into())],
            body: Bytes::from_static(b"\0\xff"),
        };
        let before = Timestamp::now();
        let written = properties(&message, Some("session")).unwrap();
        let read = entry(delivery(written, &message.body, 41)).unwrap();
        let Content::Message(read_message) = read.content else { panic!("a message") };
        assert_eq!((read.tag, read.offset, read_message.sequence), (7, 41, 42));
        assert_eq!(read_message.subject, message.subject);
        assert_eq!(read_message.body, message.body);
        assert_eq!(read_message.headers.iter().count(), 2);
        assert_eq!(read_message.header(headers::SOURCE), Some("sïm"));
        assert!(read_message.stored_at >= before && read_message.stored_at <= Timestamp::now());
    }

    #[test]
    fn a_marker_is_no_message() {
        let read = entry(delivery(marker("m1").unwrap(), b"", 3)).unwrap();
        assert!(matches!(read.content, Content::Marker { id, .. } if id == "m1"));
    }

    #[test]
    fn a_delivery_of_another_kind_of_queue_is_refused() {
        let delivery = Delivery::mock(1, "".into(), "a".into(), false, Vec::new());
        assert!(matches!(entry(delivery), Err(BrokerError::Refused(_))));
    }
}
