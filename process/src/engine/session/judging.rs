//! From a payload to the messages that are not stored of it yet.

use std::collections::HashMap;

use nats::{BrokerError, Message};
use schemas::{RawTick, Reason, Rejection, event_id, headers, subject};

use super::{
    super::{
        output::{self, Fate, Rejected},
        partition::Home,
    },
    Held, Pending, Sent, Session,
};
use crate::validate::Context;

/// A payload that is larger stays in `TICKS_RAW` alone when it is rejected: with the reason it might
/// be larger than what the broker takes. Those that were fetched are not.
const MAX_REJECTED_BYTES: usize = 512 * 1024;
/// So much is stored again of one payload, however many of its events are rejected.
const MAX_REPEATED_BYTES: usize = 1024 * 1024;

impl Session<'_> {
    /// Decodes and judges a payload, and makes the messages that are not stored yet.
    pub(super) async fn take(&mut self, message: Message) -> Result<(), BrokerError> {
        self.seen = message.sequence;
        let home = match &self.share {
            None => Home::One(0),
            Some(share) => {
                let home = Home::of(&message.subject, share.partitions.count);
                if !share.may_hold(home, message.sequence) {
                    return Ok(());
                }
                home
            }
        };
        let mut fates = self.fates(message.sequence).await?;
        let given_up = self.weigh(&message, home, &fates).await?;
        let is_decoded = given_up.is_none();
        let symbol = subject::symbol_of_raw(&message.subject);
        let raw = RawTick::from_message(|name| message.header(name), symbol, message.body.clone());
        let mut pending = Pending {
            sequence: message.sequence,
            home: home.partition(),
            received_at: raw.as_ref().ok().map(|raw| raw.received_at),
            unconfirmed: 0,
            stored: (0, 0),
            ticks: 0,
            rejections: Vec::new(),
            events: 1,
        };
        match raw {
            Ok(raw) => match given_up {
                None => self.judge(&message, &raw, home, &mut fates, &mut pending),
                Some(why) => self.give_up(&message, &raw, home, why, fates, &mut pending),
            },
            Err(fault) => {
                let id = message.header(headers::MESSAGE_ID).map_or_else(
                    || event_id(&format!("{}:{}", subject::TICKS_RAW, message.sequence), 0),
                    |id| event_id(id, 0),
                );
                let rejection = Rejection::decode(Reason::Envelope, fault.to_string());
                self.reject_whole(&message, (&id, 0), home, &rejection, &mut fates, &mut pending);
            }
        }
        self.pending.push_back(pending);
        if is_decoded {
            self.survive(&message, home).await?;
        }
        self.finish();
        Ok(())
    }

    fn judge(
        &mut self,
        message: &Message,
        raw: &RawTick,
        home: Home,
        fates: &mut HashMap<usize, Fate>,
        pending: &mut Pending,
    ) {
        let mut events = std::mem::take(&mut self.engine.events);
        self.engine.reading.decoder.decode(raw, &mut events);
        pending.events = events.len();
        let only = only_event(message);
        if let Some(only) = only.filter(|only| *only >= events.len()) {
            let detail = format!("the payload holds no event {only} any more");
            let (id, rejection) =
                (event_id(&raw.id, only), Rejection::decode(Reason::Malformed, detail));
            self.reject_whole(message, (&id, only), home, &rejection, fates, pending);
        }
        for (index, event) in events.drain(..).enumerate() {
            if only.is_some_and(|only| only != index) {
                continue;
            }
            let partition = match &self.share {
                None => home.partition(),
                Some(share) => {
                    let partition = home.of_event(&event, share.partitions.count);
                    if !share.is_due(partition, message.sequence) {
                        continue;
                    }
                    partition
                }
            };
            let place = (message.sequence, index);
            if !fates.is_empty()
                && let Some(fate) = fates.remove(&index)
            {
                match &fate {
                    Fate::Tick(tick) => self.state.tick(tick, place),
                    Fate::Rejection(Reason::Outlier, Some((symbol, price))) => {
                        self.state.rejected_outlier(symbol, *price, place);
                    }
                    Fate::Rejection(..) => {}
                }
                pending.found(&fate);
                continue;
            }
            let recovery = self.recovery.as_ref();
            let context = Context {
                raw,
                place,
                was_rejected: recovery.is_some_and(|known| known.was_rejected(partition, place)),
                is_repeat: self.engine.repeats.contains(&place),
            };
            let rules = &self.engine.reading.rules;
            let tick = event.and_then(|event| rules.judge(event, &context, &mut self.state));
            match tick {
                Ok(tick) => {
                    let sent = Sent { payload: self.taken(), tick: Some(index), partition };
                    self.ticks.push_back((sent, output::tick(&tick, index)));
                    self.ticks_made += 1;
                    pending.unconfirmed += 1;
                    pending.ticks += 1;
                }
                Err(fault) => {
                    let id = event_id(&raw.id, index);
                    self.reject(message, (&id, index), partition, &fault, pending);
                }
            }
        }
        // Its room is used again.
        self.engine.events = events;
    }

    /// Rejects what is all there is of a payload, unless that is not ours to do, or done.
    fn reject_whole(
        &mut self,
        message: &Message,
        event: (&str, usize),
        home: Home,
        rejection: &Rejection,
        fates: &mut HashMap<usize, Fate>,
        pending: &mut Pending,
    ) {
        let partition = home.partition();
        let is_due = self.share.as_ref().is_none_or(|own| own.is_due(partition, message.sequence));
        match fates.remove(&event.1) {
            _ if !is_due => {}
            Some(fate) => pending.found(&fate),
            None => self.reject(message, event, partition, rejection, pending),
        }
    }

    pub(super) fn reject(
        &mut self,
        message: &Message,
        (id, index): (&str, usize),
        partition: u16,
        rejection: &Rejection,
        pending: &mut Pending,
    ) {
        let size = message.body.len();
        let repeated = size.saturating_mul(pending.rejections.len());
        let event = Rejected {
            id,
            index,
            count: pending.events,
            with_body: size <= MAX_REJECTED_BYTES && repeated < MAX_REPEATED_BYTES,
        };
        self.rejections.push_back(Held {
            after: self.ticks_made,
            sent: Sent { payload: self.taken(), tick: None, partition },
            message: output::rejection(message, &event, rejection),
        });
        pending.unconfirmed += 1;
        pending.rejections.push(rejection.reason);
    }

    async fn fates(&mut self, sequence: u64) -> Result<HashMap<usize, Fate>, BrokerError> {
        let Some(recovery) = &mut self.recovery else { return Ok(HashMap::new()) };
        let fates = recovery.fates(sequence).await?;
        if recovery.is_over(sequence) {
            self.recovery = None;
        }
        Ok(fates)
    }

    /// How many payloads were taken before the one that is being taken.
    pub(super) fn taken(&self) -> u64 {
        self.finished + self.pending.len() as u64
    }
}

/// The only event of a payload that is meant, where it comes once more.
pub(super) fn only_event(message: &Message) -> Option<usize> {
    message.header(headers::RETRY_EVENT).and_then(|index| index.parse().ok())
}
