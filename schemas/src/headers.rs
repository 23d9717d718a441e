//! The headers of messages in the streams.

/// The deterministic id of a message: the same provider event always has the same, and two events
/// never share one. JetStream drops a second message with the same id (ADR-4, duplicate window).
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The source that a payload came from.
pub const SOURCE: &str = "Lizards-Source";
/// When the payload was received: RFC 3339, nanoseconds, UTC.
pub const RECEIVED_AT: &str = "Lizards-Received-At";
/// The media type of the body, as its provider named it.
pub const CONTENT_TYPE: &str = "Content-Type";
/// Which decoder reads the body: see [`Format`](crate::Format).
pub const FORMAT: &str = "Lizards-Format";
/// The column names of a CSV row, as the header line of its file names them.
pub const COLUMNS: &str = "Lizards-Columns";
/// Why a payload was rejected: see [`Reason`](crate::Reason).
pub const REASON: &str = "Lizards-Reason";
/// Where in the processing it was rejected: see [`Stage`](crate::Stage).
pub const STAGE: &str = "Lizards-Stage";
/// What exactly was wrong, in words.
pub const ERROR: &str = "Lizards-Error";
/// The sequence in `TICKS_RAW` of the payload that a tick or a rejection came from.
pub const RAW_SEQUENCE: &str = "Lizards-Raw-Seq";
/// The subject in `TICKS_RAW` of a rejected payload.
pub const RAW_SUBJECT: &str = "Lizards-Raw-Subject";
/// The number of an event in its payload, from 0 on: of a rejection, with how many there are, and of
/// a tick whose id does not end in it.
pub const EVENT: &str = "Lizards-Event";
/// See [`EVENT`].
pub const EVENTS: &str = "Lizards-Events";
/// Says that a rejection has not the body of its payload, which is in `TICKS_RAW`: `left out`.
pub const BODY: &str = "Lizards-Body";
/// The message id of the payload that this one is once more: its events are the same.
pub const RETRY_OF: &str = "Lizards-Retry-Of";
/// The only event of the payload that is meant, from 0 on; all of them where it is not there.
pub const RETRY_EVENT: &str = "Lizards-Retry-Event";
/// The symbol of a rejected event, as its subject token, where it could be read; of a dry run, the
/// symbol that the payload is about, as its source writes it.
pub const SYMBOL: &str = "Lizards-Symbol";
/// Of a question from one instance to another about a dry run: the partitions whose events are meant, and
/// how many there are, as `0,3/15`.
pub const PARTITIONS: &str = "Lizards-Partitions";
/// The price of a rejected event, where it could be read.
pub const PRICE: &str = "Lizards-Price";
