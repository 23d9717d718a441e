//! One opening of a session at a time.

use std::time::Duration;

use lapin::{
    Channel, Connection,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::time::{Instant, sleep};

use super::session::{ANSWER_TIMEOUT, RESOURCE_LOCKED, answer, fault, reply_code, short};
use crate::BrokerError;

/// How long to wait before asking again for what another opening still has.
const RETRY: Duration = Duration::from_millis(20);

/// The right to open a session on some names, until it is ended or its connection breaks.
///
/// Each name is a queue that the connection has for itself. The broker gives it to one connection
/// at a time, and takes it back with the connection.
pub(super) struct Opening<'a> {
    connection: &'a Connection,
    queues: Vec<String>,
}

impl<'a> Opening<'a> {
    /// Waits until the names are ours. They are taken in order, so that two openings never wait
    /// for each other.
    pub(super) async fn begin(
        connection: &'a Connection,
        mut names: Vec<String>,
    ) -> Result<Self, BrokerError> {
        names.sort_unstable();
        let mut opening = Self { connection, queues: Vec::with_capacity(names.len()) };
        for name in names {
            let queue = format!("{name}.opening");
            lock(connection, &queue).await?;
            opening.queues.push(queue);
        }
        Ok(opening)
    }

    /// Lets the next one in.
    pub(super) async fn end(self, channel: &Channel) -> Result<(), BrokerError> {
        for queue in self.queues {
            answer(channel.queue_delete(short(queue)?, QueueDeleteOptions::default())).await?;
        }
        Ok(())
    }

    /// The connection that opens.
    pub(super) fn connection(&self) -> &'a Connection {
        self.connection
    }
}

async fn lock(connection: &Connection, queue: &str) -> Result<(), BrokerError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        // A refusal closes the channel it came on.
        let channel = answer(connection.create_channel()).await?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(short(queue)?, options, FieldTable::default()).await {
            Ok(_) => return Ok(()),
            Err(error) if reply_code(&error) != Some(RESOURCE_LOCKED) => return Err(fault(&error)),
            Err(_) if Instant::now() > deadline => {
                return Err(BrokerError::Unreachable(format!(
                    "another session is still opening: {queue}"
                )));
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}
