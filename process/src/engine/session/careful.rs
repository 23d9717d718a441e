//! What a session does more carefully where processes have ended: see [`care`](super::super::care).

use std::{collections::HashMap, time::Duration};

use nats::{Broker, BrokerError, Message, Start, topology::Stream};
use schemas::{RawTick, Reason, Rejection, event_id, headers};
use tokio::time::timeout;
use tracing::error;

use super::{
    super::{
        output::{self, Fate},
        partition::{self, Home},
    },
    Pending, Session,
    judging::only_event,
};

/// How long a stored rejection may keep us waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a payload is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It has ended its process so often.
    Now(u32),
    /// It is rejected as poison already.
    Before,
}

impl Session<'_> {
    /// A careful session takes a payload when the one before is done with.
    pub(super) fn is_calm(&self) -> bool {
        self.care.is_none() || self.pending.is_empty()
    }

    /// Notes that a payload is going to be decoded, where that is needed; or says why it must not be.
    pub(super) async fn weigh(
        &mut self,
        message: &Message,
        home: Home,
        fates: &HashMap<usize, Fate>,
    ) -> Result<Option<GivenUp>, BrokerError> {
        if fates.values().any(|fate| matches!(fate, Fate::Rejection(Reason::Poison, _))) {
            return Ok(Some(GivenUp::Before));
        }
        self.care = self.care.take().filter(|care| !care.is_over_at(message.sequence));
        if self.care.is_none() {
            return Ok(None);
        }
        // Others own a part of it, and may have come to know it before us.
        if matches!(home, Home::Many(_)) && is_poison(&*self.engine.broker, message).await? {
            return Ok(Some(GivenUp::Before));
        }
        let Some(care) = &mut self.care else { return Ok(None) };
        self.engine.metrics.careful();
        Ok(care.tries(home, message).await?.map(GivenUp::Now))
    }

    /// Notes that it was survived.
    pub(super) async fn survive(
        &mut self,
        message: &Message,
        home: Home,
    ) -> Result<(), BrokerError> {
        match &mut self.care {
            Some(care) => care.survived(home, message).await,
            None => Ok(()),
        }
    }

    /// Rejects a payload that is not decoded, as a whole, unless that is done.
    pub(super) fn give_up(
        &mut self,
        message: &Message,
        raw: &RawTick,
        home: Home,
        why: GivenUp,
        fates: HashMap<usize, Fate>,
        pending: &mut Pending,
    ) {
        let sequence = message.sequence;
        let due = self.due(home, sequence);
        let count = self.share.as_ref().map_or(1, |share| share.partitions.count);
        // What somebody has made of it who has survived it is remembered, as ever.
        let mut made: Vec<_> = fates.iter().collect();
        made.sort_unstable_by_key(|(index, _)| **index);
        for (index, fate) in made {
            if let Fate::Tick(tick) = fate {
                let partition = match home {
                    Home::One(partition) => partition,
                    Home::Many(_) => partition::of_symbol(&tick.symbol, count),
                };
                if due.contains(&partition) {
                    self.state.tick(tick, (sequence, *index));
                    pending.found(fate);
                }
            }
        }
        let is_home = due.contains(&home.partition());
        let own = if is_home { Some(home.partition()) } else { due.first().copied() };
        match (why, own) {
            (GivenUp::Now(times), Some(own)) => {
                // In the place of an event of which nothing is stored.
                let index = (only_event(message).unwrap_or_default()..)
                    .find(|index| !fates.contains_key(index))
                    .unwrap_or_default();
                let detail = format!(
                    "each of the {times} processes that decoded it by itself has ended there; it \
                     is not decoded any more"
                );
                error!(sequence, subject = message.subject, times, "a payload ends its processes");
                let rejection = Rejection::decode(Reason::Poison, detail);
                self.reject(message, (&event_id(&raw.id, index), index), own, &rejection, pending);
            }
            // Who owns its home counts it.
            _ if is_home => pending.found(&Fate::Rejection(Reason::Poison, None)),
            _ => {}
        }
    }

    /// For which of our partitions a payload is due.
    fn due(&self, home: Home, sequence: u64) -> Vec<u16> {
        match (&self.share, home) {
            (None, home) | (Some(_), home @ Home::One(_)) => vec![home.partition()],
            (Some(share), Home::Many(_)) => {
                let own = share.partitions.own.iter().copied();
                own.filter(|partition| share.is_due(*partition, sequence)).collect()
            }
        }
    }
}

/// Whether a payload is rejected as poison, by whomever. Its rejection may stand before those that
/// were looked for at the start.
async fn is_poison(broker: &dyn Broker, message: &Message) -> Result<bool, BrokerError> {
    let subject = output::poison_subject(message);
    let Some(newest) = broker.last(Stream::Rejected, &subject).await? else {
        return Ok(false);
    };
    if newest.stored_at < message.stored_at {
        return Ok(false);
    }
    let start = Start::Time(message.stored_at);
    let mut rejections = broker.reader(Stream::Rejected, &[subject], start).await?;
    let sequence = message.sequence.to_string();
    loop {
        let next = timeout(READ_TIMEOUT, rejections.next()).await;
        let rejection = next.map_err(|_| {
            BrokerError::Unreachable("it does not give what is rejected as poison".to_owned())
        })??;
        if rejection.header(headers::RAW_SEQUENCE) == Some(&sequence) {
            return Ok(true);
        }
        if rejection.sequence >= newest.sequence {
            return Ok(false);
        }
    }
}
