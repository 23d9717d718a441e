//! RabbitMQ as the broker, by its stream queues over AMQP 0-9-1 (RabbitMQ 3.10 or newer).
//!
//! | the pipeline's | RabbitMQ's |
//! | --- | --- |
//! | stream | a queue of type stream of the same name, bound to the topic exchange `lizards` |
//! | subject | the routing key, at most 255 bytes |
//! | sequence | the stream's offset + 1 |
//! | durable consumer | the stream `<stream>.<durable>.position` of its acknowledged sequences |
//! | exclusive writer | the exchange `lizards.<stream>.writer`, with a binding for one session |
//!
//! What differs from JetStream:
//!
//! - There is no duplicate window: a message sent twice is stored twice, and
//!   [`Receipt::duplicate`](crate::Receipt) is never true.
//! - JetStream refuses a fenced writer where the stream is stored; RabbitMQ does where messages
//!   are routed. Once an exclusive session is open, no later message of an older one is routed. A
//!   message that was routed just before has a tenth of a second to be stored: certain on one
//!   node, and short of certain in a cluster whose nodes are slower than that, or change their
//!   leader at that moment. Shared sessions are not fenced; nothing writes shared into what
//!   another writes exclusively.
//! - What a session with several streams has stored is a prefix of what it was given when it is
//!   fenced by a session of the same streams or more, as the pipeline's are; per stream otherwise.
//! - A message's time is the publisher's, in nanoseconds. A start by time skips nothing while the
//!   clocks of publishers and broker are within five seconds of each other.
//! - Headers come back in the order of their names, and subjects are filtered by the reader: all
//!   of the stream crosses the network.
//! - `state`, `last` and `newest_per_subject` each write a marker of about a hundred bytes into
//!   the stream, which takes a sequence: see `scan`. `last` reads back from the end to what it
//!   finds, and `newest_per_subject` reads the whole stream.
//! - The number of messages in a state is that of the sequences less the markers noted: see
//!   `ledger`. RabbitMQ takes a sequence for itself when it begins a segment, so there may be a
//!   few less.
//!
//! Bounds: a reader holds 1,024 messages in memory, a consumer its window, either with what the
//! server stored together with the last of them; a publisher holds what its caller has in flight. Each session has a connection of its own, and ends with it.

mod consumer;
mod cursor;
mod declare;
mod fence;
mod ledger;
mod opening;
mod outbox;
mod publisher;
mod reader;
mod scan;
mod session;
mod subject;
mod takeover;
mod wire;

use std::collections::HashMap;

use async_trait::async_trait;
use lapin::{Connection, uri::AMQPUri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use self::ledger::Ledger;
use crate::{
    Broker, BrokerError, Consumer, Exclusivity, Message, Publisher, Reader, Start, StreamState,
    topology::{Durable, Stream, StreamsConfig, is_match},
};

/// How many seconds between two heartbeats, where the URL does not say. After two without one,
/// either side gives the other up.
const HEARTBEAT_SECS: u16 = 10;

/// How RabbitMQ is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitMqConfig {
    /// Secret: the address with the user's password, `amqp://` or `amqps://` with user, password,
    /// host, port and virtual host (`%2f` is the default one).
    pub url: String,
}

impl Default for RabbitMqConfig {
    fn default() -> Self {
        Self { url: "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned() }
    }
}

/// RabbitMQ as the broker.
pub struct RabbitMq {
    uri: AMQPUri,
    streams: StreamsConfig,
    ledgers: HashMap<Stream, Mutex<Ledger>>,
}

impl RabbitMq {
    /// Checks the address, and that the broker lets us in.
    pub async fn connect(
        config: &RabbitMqConfig,
        streams: StreamsConfig,
    ) -> Result<Self, BrokerError> {
        let mut uri: AMQPUri = config
            .url
            .parse()
            // The parser's words may hold the address, and with it the password.
            .map_err(|_| BrokerError::Refused("the URL is no AMQP address".to_owned()))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECS);
        session::connect(&uri, "check").await?;
        let ledgers = Stream::ALL.map(|stream| (stream, Mutex::new(Ledger::new(stream)))).into();
        Ok(Self { uri, streams, ledgers })
    }

    /// The offset of a marker at the end of the stream, as of now.
    async fn end(&self, connection: &Connection, stream: Stream) -> Result<u64, BrokerError> {
        let end = scan::end(connection, stream.name()).await?;
        self.note(connection, stream, end).await?;
        Ok(end)
    }

    async fn note(
        &self,
        connection: &Connection,
        stream: Stream,
        marker: u64,
    ) -> Result<(), BrokerError> {
        match self.ledgers.get(&stream) {
            Some(ledger) => ledger.lock().await.note(connection, marker).await,
            None => Ok(()),
        }
    }

    /// How many markers are among these sequences.
    async fn markers(&self, stream: Stream, first: u64, last: u64) -> u64 {
        match self.ledgers.get(&stream) {
            Some(ledger) => ledger.lock().await.count(first - 1, last - 1),
            None => 0,
        }
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn declare(&self) -> Result<(), BrokerError> {
        declare::all(&session::connect(&self.uri, "declare").await?, &self.streams).await
    }

    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        let connection = session::connect(&self.uri, "publisher").await?;
        Ok(Box::new(publisher::Session::open(connection, streams, exclusivity).await?))
    }

    async fn consumer(&self, durable: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        let connection = session::connect(&self.uri, durable.name).await?;
        Ok(Box::new(consumer::Session::open(connection, durable).await?))
    }

    async fn reader(
        &self,
        stream: Stream,
        subjects: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        let connection = session::connect(&self.uri, "reader").await?;
        Ok(Box::new(reader::Reading::open(connection, stream, subjects, start).await?))
    }

    async fn last(&self, stream: Stream, pattern: &str) -> Result<Option<Message>, BrokerError> {
        let connection = session::connect(&self.uri, "last").await?;
        let wanted = |message: &Message| is_match(pattern, &message.subject);
        let end = self.end(&connection, stream).await?;
        scan::newest_before(&connection, stream.name(), end, wanted).await
    }

    async fn newest_per_subject(
        &self,
        stream: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        let connection = session::connect(&self.uri, "newest").await?;
        let census = scan::census(&connection, stream.name()).await?;
        self.note(&connection, stream, census.end).await?;
        Ok((census.state, census.newest))
    }

    async fn state(&self, stream: Stream) -> Result<StreamState, BrokerError> {
        let connection = session::connect(&self.uri, "state").await?;
        let queue = stream.name();
        let end = self.end(&connection, stream).await?;
        let Some(newest) = scan::newest_before(&connection, queue, end, |_| true).await? else {
            return Ok(StreamState::default());
        };
        let first = scan::oldest(&connection, queue).await?.sequence;
        let last = newest.sequence.max(first);
        let markers = self.markers(stream, first, last).await;
        let messages = (last - first + 1).saturating_sub(markers);
        Ok(StreamState { first_sequence: first, last_sequence: last, messages })
    }
}
