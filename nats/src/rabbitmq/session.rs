//! Connections, and what their faults mean.

use std::{future::Future, time::Duration};

use lapin::{
    Connection, ConnectionProperties, Error, ErrorKind,
    types::{AMQPValue, FieldTable, ShortString},
    uri::AMQPUri,
};

use crate::BrokerError;

/// How long the broker may take for one answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The AMQP reply code of a queue, an exchange or a virtual host that is not there.
pub(super) const NOT_FOUND: u16 = 404;
/// The AMQP reply code of a queue that another connection has for itself.
pub(super) const RESOURCE_LOCKED: u16 = 405;
/// The AMQP reply code of an object that is there, but with other properties.
pub(super) const PRECONDITION_FAILED: u16 = 406;

/// What passes by itself: a forced close (an operator, a shutdown), too few resources, an
/// internal error.
const PASSING: [u16; 3] = [320, 506, 541];

/// Connects for one session, under a name that the operator sees in the broker.
pub(super) async fn connect(uri: &AMQPUri, purpose: &str) -> Result<Connection, BrokerError> {
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("lizards {purpose}").into_bytes().into());
    answer(Connection::connect_uri(uri.clone(), properties)).await
}

/// The broker's answer, or the fault that it does not come.
pub(super) async fn answer<T>(
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| fault(&error)),
        Err(_) => Err(BrokerError::Unreachable(format!("no answer within {ANSWER_TIMEOUT:?}"))),
    }
}

/// Whether a fault passes by itself, or is a refusal.
pub(super) fn fault(error: &Error) -> BrokerError {
    let text = error.to_string();
    let refused = match error.kind() {
        // A queue whose node is down is "not found" until the node is back.
        ErrorKind::ProtocolError(reply) => {
            !PASSING.contains(&reply.get_id()) && !text.contains("down or inaccessible")
        }
        ErrorKind::AuthProviderError(_)
        | ErrorKind::ChannelsLimitReached
        | ErrorKind::InvalidProtocolVersion(_)
        | ErrorKind::SerialisationError(_) => true,
        _ => false,
    };
    if refused { BrokerError::Refused(text) } else { BrokerError::Unreachable(text) }
}

/// The reply code, where the fault is the broker's reply.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
        _ => None,
    }
}

/// A name or a routing key: at most 255 bytes in AMQP 0-9-1.
pub(super) fn short(text: impl Into<String>) -> Result<ShortString, BrokerError> {
    let text = text.into();
    ShortString::try_new(text.clone()).map_err(|_| {
        BrokerError::Refused(format!("{text:?} has {} bytes; AMQP allows 255", text.len()))
    })
}

/// A table of arguments or headers.
pub(super) fn table<const N: usize>(
    pairs: [(&str, AMQPValue); N],
) -> Result<FieldTable, BrokerError> {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert(short(name)?, value);
    }
    Ok(table)
}

/// A text as a value of a table.
pub(super) fn text(text: impl Into<String>) -> AMQPValue {
    AMQPValue::LongString(text.into().into_bytes().into())
}
