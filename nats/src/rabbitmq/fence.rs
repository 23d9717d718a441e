//! The last one to open is the only one who can write.
//!
//! A gate is an exchange that lets through only messages with the id of one session, by a headers
//! binding. Raising a fence deletes the gate, with the binding of whoever had it, and makes it
//! anew with the binding of the new session. From then on the broker itself drops what the older
//! session sends: while the gate is away its channel is closed (404), and once the gate is back
//! its messages come back as unroutable. Nothing of it depends on the older session's good will,
//! on clocks or on timeouts.

use std::time::Duration;

use lapin::{
    Confirmation, Error, ExchangeKind,
    options::{
        ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    },
    types::FieldTable,
};
use tokio::time::sleep;

use super::{
    opening::Opening,
    session::{NOT_FOUND, answer, reply_code, short, table, text},
    wire::SESSION,
};
use crate::BrokerError;

/// How long a message may take from the node that has routed it to the stream that stores it.
/// Within a node that is microseconds.
const SETTLING: Duration = Duration::from_millis(100);

/// The reply code of a message that no queue takes.
const NO_ROUTE: u16 = 312;

/// An exchange with a door for one.
pub(super) struct Gate {
    /// Its name.
    pub(super) exchange: String,
    /// Where it leads.
    pub(super) target: Target,
}

/// Where a gate leads.
pub(super) enum Target {
    /// To an exchange.
    Exchange(&'static str),
    /// To a queue.
    Queue(String),
}

/// Shuts the gates for everybody before, and opens them for a session of this id.
pub(super) async fn raise(
    opening: &Opening<'_>,
    gates: &[Gate],
    session: &str,
) -> Result<(), BrokerError> {
    let channel = answer(opening.connection().create_channel()).await?;
    // All are away before the first is back: an older session that finds one shut loses its
    // channel, and with it everything it sends to the others afterwards.
    for gate in gates {
        let delete =
            channel.exchange_delete(short(&*gate.exchange)?, ExchangeDeleteOptions::default());
        answer(delete).await?;
    }
    for gate in gates {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Headers;
        let name = short(&*gate.exchange)?;
        answer(channel.exchange_declare(name.clone(), kind, options, FieldTable::default()))
            .await?;
        let key = short("")?;
        let arguments = table([("x-match", text("all")), (SESSION, text(session))])?;
        match &gate.target {
            Target::Exchange(target) => {
                let options = ExchangeBindOptions::default();
                let target = short(*target)?;
                answer(channel.exchange_bind(target, name, key, options, arguments)).await?;
            }
            Target::Queue(target) => {
                let options = QueueBindOptions::default();
                let target = short(&**target)?;
                answer(channel.queue_bind(target, name, key, options, arguments)).await?;
            }
        }
    }
    sleep(SETTLING).await;
    Ok(())
}

/// Whether the outcome of a message says that its gate is shut.
pub(super) fn is_shut(outcome: &Result<Confirmation, Error>) -> bool {
    match outcome {
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
            returned.reply_code == NO_ROUTE
        }
        Ok(_) => false,
        Err(error) => reply_code(error) == Some(NOT_FOUND),
    }
}
