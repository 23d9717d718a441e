//! Messages sent in order whose confirms come in that order.

use std::collections::VecDeque;

use futures_util::{FutureExt, future::BoxFuture};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::session::{answer, short};
use crate::BrokerError;

/// A channel with confirms, and what is in flight on it.
pub(super) struct Outbox<T> {
    channel: Channel,
    in_flight: VecDeque<(T, BoxFuture<'static, lapin::Result<Confirmation>>)>,
}

impl<T> Outbox<T> {
    /// Opens a channel.
    pub(super) async fn open(connection: &Connection) -> Result<Self, BrokerError> {
        let channel = answer(connection.create_channel()).await?;
        answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { channel, in_flight: VecDeque::new() })
    }

    /// Sends without waiting, and remembers what for.
    pub(super) fn send(
        &mut self,
        context: T,
        exchange: &str,
        key: &str,
        body: Vec<u8>,
        properties: BasicProperties,
    ) -> Result<(), BrokerError> {
        let (exchange, key) = (short(exchange)?, short(key)?);
        let channel = self.channel.clone();
        let mut outcome = async move {
            channel.basic_publish(exchange, key, mandatory(), &body, properties).await?.await
        }
        .boxed();
        // The first poll numbers the message and hands its frames to the connection, in one go:
        // what is polled in order is sent in order.
        if let Some(ready) = (&mut outcome).now_or_never() {
            outcome = std::future::ready(ready).boxed();
        }
        self.in_flight.push_back((context, outcome));
        Ok(())
    }

    /// Sends, and returns when the message has left for the broker: a session that is dropped
    /// afterwards does not take it back.
    pub(super) async fn dispatch(
        &mut self,
        context: T,
        exchange: &str,
        key: &str,
        body: Vec<u8>,
        properties: BasicProperties,
    ) -> Result<(), BrokerError> {
        let (exchange, key) = (short(exchange)?, short(key)?);
        let publish = self.channel.basic_publish(exchange, key, mandatory(), &body, properties);
        let confirm = answer(publish).await?;
        self.in_flight.push_back((context, confirm.boxed()));
        Ok(())
    }

    /// The outcome of the oldest in flight, and what it was for. Pending for ever while nothing is
    /// in flight. Cancel safe.
    pub(super) async fn outcome(&mut self) -> (T, lapin::Result<Confirmation>) {
        let outcome = match self.in_flight.front_mut() {
            Some((_, outcome)) => outcome.await,
            None => std::future::pending().await,
        };
        match self.in_flight.pop_front() {
            Some((context, _)) => (context, outcome),
            None => std::future::pending().await,
        }
    }

    /// How many are in flight.
    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }
}

/// A message that no queue takes comes back.
fn mandatory() -> BasicPublishOptions {
    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() }
}
