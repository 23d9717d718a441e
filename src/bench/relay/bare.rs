//! The bare relays: they pass messages on and do nothing else. Written against async-nats alone, as
//! somebody would who wants it fast.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result};
use async_nats::{
    Client, HeaderMap, Subject,
    jetstream::{
        self, Message,
        consumer::{AckPolicy, pull},
        context::PublishAckFuture,
    },
};
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use schemas::{headers, subject};
use tokio::{
    select,
    time::{MissedTickBehavior, interval},
};

/// The durable consumer of a relay.
pub(super) const CONSUMER: &str = "bare";

/// The windows of ours: payloads taken, and messages without a receipt.
const PENDING: i64 = 4_096;
const IN_FLIGHT: usize = 2_048;
const PULL: usize = 1_000;

/// A tick as ours writes it, so that the server has the same to store.
const BODY: &str = r#"{"id":"bench:000123456.0","symbol":"S1","price":"100.42","size":"101","currency":"USD","exchange":"P","kind":"trade","ts":"2013-10-07T13:30:00.15Z","received_at":"2013-10-07T13:30:00.15Z","source":"file","raw_seq":123456}"#;

/// Which relay.
#[derive(Args)]
pub(crate) struct BareOptions {
    /// How it publishes and acknowledges
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    Futures,
    Inbox,
}

/// Relays until it is stopped.
pub(crate) async fn relay(options: &BareOptions, url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let jetstream = jetstream::new(client.clone());
    let policy = match options.how {
        How::Futures => AckPolicy::Explicit,
        How::Inbox => AckPolicy::All,
    };
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: policy,
        max_ack_pending: PENDING,
        ..pull::Config::default()
    };
    let consumer = jetstream.create_consumer_on_stream(config, subject::TICKS_RAW).await?;
    let messages = consumer.stream().max_messages_per_batch(PULL).messages().await?;
    match options.how {
        How::Futures => futures(&jetstream, messages).await,
        How::Inbox => inbox(&client, messages).await,
    }
}

/// Where a payload is passed on to, and with what.
fn passed_on(message: &Message) -> (String, HeaderMap) {
    let token = message.subject.rsplit('.').next().unwrap_or_default();
    let raw = message.headers.as_ref();
    let header = |name: &str| raw.and_then(|raw| raw.get(name)).map_or("", |value| value.as_str());
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, format!("{}.0", header(headers::MESSAGE_ID)));
    map.insert(headers::SOURCE, header(headers::SOURCE));
    map.insert(headers::RECEIVED_AT, header(headers::RECEIVED_AT));
    map.insert(headers::CONTENT_TYPE, "application/json");
    let sequence = message.info().map_or(0, |info| info.stream_sequence);
    map.insert(headers::RAW_SEQUENCE, sequence.to_string());
    (format!("ticks.norm.{token}"), map)
}

async fn futures(jetstream: &jetstream::Context, mut messages: pull::Stream) -> Result<()> {
    let mut in_flight = VecDeque::<(Message, std::pin::Pin<Box<_>>)>::new();
    loop {
        let has_room = in_flight.len() < IN_FLIGHT;
        select! {
            biased;
            message = messages.next(), if has_room => {
                let message = message.context("the consumer ended")??;
                let (subject, headers) = passed_on(&message);
                let sent: PublishAckFuture =
                    jetstream.publish_with_headers(subject, headers, BODY.into()).await?;
                in_flight.push_back((message, Box::pin(sent.into_future())));
            }
            stored = async {
                match in_flight.front_mut() {
                    Some((_, sent)) => sent.await,
                    None => std::future::pending().await,
                }
            } => {
                stored?;
                if let Some((message, _)) = in_flight.pop_front() {
                    message.ack().await.map_err(anyhow::Error::msg)?;
                }
            }
        }
    }
}

async fn inbox(client: &Client, mut messages: pull::Stream) -> Result<()> {
    let inbox = client.new_inbox();
    let mut receipts = client.subscribe(format!("{inbox}.*")).await?;
    let mut in_flight = VecDeque::<Option<Subject>>::new();
    let (mut sent, mut stored, mut unacknowledged) = (0_u64, 0_u64, 0);
    let mut newest = None;
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let has_room = in_flight.len() < IN_FLIGHT;
        select! {
            biased;
            receipt = receipts.next(), if !in_flight.is_empty() => {
                let receipt = receipt.context("the connection broke")?;
                let ticket = receipt.subject[inbox.len() + 1..].parse::<u64>()?;
                anyhow::ensure!(ticket == stored, "a receipt is missing");
                anyhow::ensure!(!receipt.payload.starts_with(br#"{"error""#), "a message is refused");
                stored += 1;
                newest = in_flight.pop_front().flatten().or(newest);
                unacknowledged += 1;
            }
            message = messages.next(), if has_room => {
                let message = message.context("the consumer ended")??;
                let (subject, headers) = passed_on(&message);
                let reply = format!("{inbox}.{sent}");
                sent += 1;
                let body = BODY.into();
                client.publish_with_reply_and_headers(subject, reply, headers, body).await?;
                in_flight.push_back(message.reply.clone());
            }
            _ = ticks.tick(), if unacknowledged > 0 => unacknowledged = 256,
        }
        if unacknowledged >= 256
            && let Some(reply) = newest.take()
        {
            client.publish(reply, "+ACK".into()).await?;
            unacknowledged = 0;
        }
    }
}
