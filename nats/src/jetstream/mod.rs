//! JetStream as the broker.

mod consumer;
mod publisher;
mod reader;

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::{self, DiscardPolicy, LastRawMessageErrorKind, StorageType},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt, future::try_join_all};
use jiff::Timestamp;

use self::publisher::{Fence, Guard};
use crate::{
    Broker, BrokerError, Consumer, Exclusivity, Headers, Message, Nats, Partitions, Publisher,
    Reader, Start, StreamState,
    topology::{Durable, Stream, StreamsConfig},
};

/// The streams of the pipeline in JetStream.
pub struct JetStream {
    nats: Nats,
    streams: StreamsConfig,
}

impl JetStream {
    /// The streams at the servers of a connection.
    pub fn new(nats: Nats, streams: StreamsConfig) -> Self {
        Self { nats, streams }
    }

    async fn stream(&self, stream: Stream) -> Result<stream::Stream<()>, BrokerError> {
        self.nats.jetstream.get_stream_no_info(stream.name()).await.map_err(unreachable)
    }

    fn stream_config(&self, stream: Stream) -> stream::Config {
        const HOUR: u64 = 3_600;
        const MIB: u64 = 1 << 20;
        let (hours, mib) = self.streams.limits(stream);
        stream::Config {
            name: stream.name().to_owned(),
            description: Some(stream.description().to_owned()),
            subjects: [Some(stream.subjects()), stream.fences()]
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
            max_age: Duration::from_secs(hours.saturating_mul(HOUR)),
            max_bytes: i64::try_from(mib.saturating_mul(MIB)).unwrap_or(i64::MAX),
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas: self.streams.replicas,
            duplicate_window: Duration::from_secs(self.streams.duplicate_window_secs),
            allow_direct: true,
            ..stream::Config::default()
        }
    }
}

#[async_trait]
impl Broker for JetStream {
    async fn declare(&self) -> Result<(), BrokerError> {
        for stream in Stream::ALL {
            self.nats
                .jetstream
                .create_or_update_stream(self.stream_config(stream))
                .await
                .map_err(|fault| refused_stream(stream, &fault))?;
        }
        Ok(())
    }

    async fn publisher(
        &self,
        streams: &[Stream],
        exclusivity: Exclusivity,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        let mut own = Vec::with_capacity(streams.len());
        for stream in streams {
            let guard = match exclusivity {
                Exclusivity::Shared => Guard::Open,
                Exclusivity::Exclusive => Guard::tip(self.last_sequence(*stream).await?),
            };
            own.push((*stream, guard));
        }
        let (client, dead) = self.nats.session().await.map_err(unreachable)?;
        Ok(Box::new(publisher::Session::open(client, dead, own).await?))
    }

    /// Not in a cluster: there a message may be lost between two servers, or with a leader, while
    /// those behind it are stored, and a stream with several replicas takes one message at a time
    /// that names a fence. A single writer's messages each name the one before.
    fn partitions(&self, wanted: u16) -> Option<u16> {
        let is_clustered = self.nats.client.server_info().cluster.is_some();
        Some(if is_clustered || self.streams.replicas > 1 { 1 } else { wanted })
    }

    async fn partition_publisher(
        &self,
        streams: &[Stream],
        partitions: &Partitions,
    ) -> Result<Box<dyn Publisher>, BrokerError> {
        let (client, dead) = self.nats.session().await.map_err(unreachable)?;
        let mut own = Vec::with_capacity(streams.len());
        for stream in streams {
            let fences = self.raise_fences(*stream, partitions).await?;
            // Whoever has all of them is alone. Then the stronger guard will do, and costs less.
            let guard = match partitions.are_all() {
                true => Guard::tip(self.last_sequence(*stream).await?),
                false => Guard::Fences(fences),
            };
            own.push((*stream, guard));
        }
        Ok(Box::new(publisher::Session::open(client, dead, own).await?))
    }

    async fn consumer(&self, durable: &Durable) -> Result<Box<dyn Consumer>, BrokerError> {
        let stream = self.stream(durable.stream).await?;
        Ok(Box::new(consumer::Session::open(&self.nats, &stream, durable).await?))
    }

    async fn reader(
        &self,
        stream: Stream,
        subjects: &[String],
        start: Start,
    ) -> Result<Box<dyn Reader>, BrokerError> {
        let open = self.stream(stream).await?;
        let subjects = match subjects {
            // The fences are nobody's business.
            [] if stream.fences().is_some() => &[stream.subjects().to_owned()],
            subjects => subjects,
        };
        Ok(Box::new(reader::Session::open(&self.nats.deliveries, &open, subjects, start).await?))
    }

    async fn last(&self, stream: Stream, pattern: &str) -> Result<Option<Message>, BrokerError> {
        match self.stream(stream).await?.get_last_raw_message_by_subject(pattern).await {
            Ok(message) => Ok(Some(Message {
                subject: message.subject.into_string(),
                headers: Headers::new(Some(message.headers)),
                body: message.payload,
                sequence: message.sequence,
                stored_at: utc(message.time)?,
            })),
            Err(fault) if fault.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(fault) => Err(unreachable(fault)),
        }
    }

    async fn newest_per_subject(
        &self,
        stream: Stream,
    ) -> Result<(StreamState, Vec<Message>), BrokerError> {
        let mut state = self.state(stream).await?;
        let mut consumer = self
            .stream(stream)
            .await?
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::LastPerSubject,
                filter_subject: stream.subjects().to_owned(),
                ack_policy: AckPolicy::None,
                memory_storage: true,
                inactive_threshold: Duration::from_secs(30),
                ..pull::Config::default()
            })
            .await
            .map_err(unreachable)?;
        let wanted = usize::try_from(consumer.info().await.map_err(unreachable)?.num_pending)
            .unwrap_or(usize::MAX);
        let mut newest = Vec::new();
        while newest.len() < wanted {
            const BATCH: usize = 1_000;
            let batch = consumer
                .fetch()
                .max_messages(BATCH.min(wanted - newest.len()))
                .messages()
                .await
                .map_err(unreachable)?;
            let messages: Vec<_> = batch.try_collect().await.map_err(unreachable)?;
            if messages.is_empty() {
                // Some of them have aged out meanwhile.
                break;
            }
            for message in messages {
                newest.push(delivered(message)?.0);
            }
        }
        // A consumer of this kind goes on with what is stored after it was made, in order. Up to
        // the highest sequence seen, nothing is missing either way.
        state.last_sequence =
            newest.iter().map(|message| message.sequence).fold(state.last_sequence, u64::max);
        Ok((state, newest))
    }

    async fn state(&self, stream: Stream) -> Result<StreamState, BrokerError> {
        let Some(fences) = stream.fences() else {
            let info = self.stream(stream).await?.get_info().await.map_err(unreachable)?;
            return Ok(StreamState {
                first_sequence: info.state.first_sequence,
                last_sequence: info.state.last_sequence,
                messages: info.state.messages,
            });
        };
        let open = self.stream(stream).await?;
        let mut found = open.info_with_subjects(fences).await.map_err(unreachable)?;
        let state = found.info.state.clone();
        let mut raised = 0;
        while let Some((_, count)) = found.try_next().await.map_err(unreachable)? {
            raised += count as u64;
        }
        let last = match raised {
            0 => None,
            _ => self.last(stream, stream.subjects()).await?,
        };
        Ok(StreamState {
            first_sequence: state.first_sequence,
            // Where no other message is kept, what there was is before the fences.
            last_sequence: last.map_or(state.last_sequence, |last| last.sequence),
            messages: state.messages.saturating_sub(raised),
        })
    }
}

impl JetStream {
    /// The sequence of the newest message, a fence too.
    async fn last_sequence(&self, stream: Stream) -> Result<u64, BrokerError> {
        let info = self.stream(stream).await?.get_info().await.map_err(unreachable)?;
        Ok(info.state.last_sequence)
    }

    /// Raises the fences of these partitions: what names an older one is refused from here on.
    async fn raise_fences(
        &self,
        stream: Stream,
        partitions: &Partitions,
    ) -> Result<BTreeMap<u16, Fence>, BrokerError> {
        let Some(pattern) = stream.fences() else {
            return Err(BrokerError::Refused(format!("{stream} has no partitions")));
        };
        let raising = partitions.own.iter().map(async |partition| {
            let subject = pattern.replace('*', &partition.to_string());
            let sent = self.nats.jetstream.publish(subject.clone(), Bytes::new()).await;
            let stored = sent.map_err(unreachable)?.await.map_err(unreachable)?;
            Ok((*partition, Fence { subject, sequence: stored.sequence.to_string() }))
        });
        try_join_all(raising).await.map(BTreeMap::from_iter)
    }
}

/// A delivered message, its place in the deliveries of its consumer, and where to acknowledge it.
fn delivered(
    message: jetstream::Message,
) -> Result<(Message, u64, async_nats::Subject), BrokerError> {
    let info = message.info().map_err(unreachable)?;
    let (sequence, delivery) = (info.stream_sequence, info.consumer_sequence);
    let stored_at = utc(info.published)?;
    let message = message.message;
    let reply = message.reply.ok_or_else(|| unreachable("a delivery without a reply subject"))?;
    let headers = Headers::new(message.headers);
    let subject = message.subject.into_string();
    Ok((Message { subject, headers, body: message.payload, sequence, stored_at }, delivery, reply))
}

fn utc(time: async_nats::datetime::DateTime) -> Result<Timestamp, BrokerError> {
    Timestamp::from_nanosecond(time.unix_timestamp_nanos()).map_err(unreachable)
}

fn unreachable(fault: impl ToString) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}

fn refused_stream(stream: Stream, fault: &jetstream::context::CreateStreamError) -> BrokerError {
    use jetstream::context::CreateStreamErrorKind as Kind;
    match fault.kind() {
        Kind::JetStream(error) => BrokerError::Refused(format!(
            "stream {stream}: {error} (its limits are streams.* in the configuration)"
        )),
        _ => unreachable(fault),
    }
}
