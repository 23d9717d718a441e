//! Telling the session before that it is over.

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};

use super::session::{ANSWER_TIMEOUT, answer, fault, short};
use crate::BrokerError;

/// The exchange on which a new session says that it is there.
const EXCHANGE: &str = "lizards.takeover";

/// Hears of sessions that open after this one.
pub(super) struct Successor {
    announcements: Consumer,
    /// The consumer lives as long as its channel.
    _channel: Channel,
}

impl Successor {
    /// Tells the session before under this name that it is over, and listens for the one after.
    /// To be called by one opening at a time: then whoever else is heard of came later.
    pub(super) async fn announce(
        connection: &Connection,
        name: &str,
        session: &str,
    ) -> Result<Self, BrokerError> {
        let channel = answer(connection.create_channel()).await?;
        let arguments = FieldTable::default();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = short(EXCHANGE)?;
        let declare = channel.exchange_declare(
            exchange.clone(),
            ExchangeKind::Direct,
            durable,
            arguments.clone(),
        );
        answer(declare).await?;
        let own = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = answer(channel.queue_declare(short("")?, own, arguments.clone())).await?;
        let bind = QueueBindOptions::default();
        let name = short(name)?;
        let queue = queue.name().clone();
        answer(channel.queue_bind(
            queue.clone(),
            exchange.clone(),
            name.clone(),
            bind,
            arguments.clone(),
        ))
        .await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let announcements =
            answer(channel.basic_consume(queue, short("")?, options, arguments)).await?;
        let publish = channel.basic_publish(
            exchange,
            name,
            BasicPublishOptions::default(),
            session.as_bytes(),
            BasicProperties::default(),
        );
        answer(publish).await?;
        let mut successor = Self { announcements, _channel: channel };
        // It has reached the others when it has reached our own queue. What came before it is of
        // openings that ended before this one.
        let own = async {
            while successor.announcement().await? != session.as_bytes() {}
            Ok(())
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, own).await {
            Ok(heard) => heard.map(|()| successor),
            Err(_) => Err(BrokerError::Unreachable("the take-over was not heard".to_owned())),
        }
    }

    /// Returns when another session has opened. Cancel safe.
    pub(super) async fn appeared(&mut self) -> Result<(), BrokerError> {
        self.announcement().await.map(|_| ())
    }

    async fn announcement(&mut self) -> Result<Vec<u8>, BrokerError> {
        match self.announcements.next().await {
            Some(Ok(announcement)) => Ok(announcement.data),
            Some(Err(error)) => Err(fault(&error)),
            None => Err(BrokerError::Unreachable("the broker ended the session".to_owned())),
        }
    }
}
