//! Gathers what the owners of a payload's symbols make of them. Each event is judged once, by the memory
//! that the pipeline would judge it by: our own, or that of the instance that owns its partition.
//!
//! The owners are asked in rounds. What a round leaves open, because a partition moves or its owner has
//! died, the next one asks about, as long as there is time. Who is asked by another instance answers by
//! its own memory and asks nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

use super::{
    DryRuns, Refusal, blocking,
    judge::{self, Part},
    others::Unasked,
    payload::{Homes, Payload},
    question::{Partitions, Question},
};

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known in the end.
pub(super) struct Gathered {
    pub(super) parts: Vec<Part>,
    /// The events that nobody has judged, and why.
    pub(super) open: Vec<usize>,
    pub(super) whys: BTreeSet<Unasked>,
}

/// Goes with the work, on whichever thread it is done.
pub(super) type Permit = Arc<OwnedSemaphorePermit>;

impl DryRuns {
    /// Asks about all that could be read, until then.
    pub(super) async fn gather(
        &self,
        payload: &Arc<Payload>,
        permit: &Permit,
        until: Instant,
    ) -> Gathered {
        let mut parts = Vec::new();
        let mut open: Vec<_> = payload.readable().map(|(number, _)| number).collect();
        let mut whys = BTreeSet::new();
        while !open.is_empty() {
            let round = self.round(payload, open, permit, until).await;
            parts.extend(round.parts);
            (open, whys) = (round.open, round.whys);
            if !whys.iter().any(Unasked::may_pass) || Instant::now() + PAUSE >= until {
                break;
            }
            sleep(PAUSE).await;
        }
        open.sort_unstable();
        Gathered { parts, open, whys }
    }

    async fn round(
        &self,
        payload: &Arc<Payload>,
        events: Vec<usize>,
        permit: &Permit,
        until: Instant,
    ) -> Gathered {
        let (count, owners) = match self.owners(payload, &events, until).await {
            Ok(found) => found,
            Err(why) => return Gathered { parts: Vec::new(), open: events, whys: [why].into() },
        };
        let asking = owners.into_iter().map(async |(owner, asked)| {
            let told = match &owner {
                Some(owner) => self.ask(owner, payload, &asked, count, permit, until).await,
                None => Err(Unasked::NoOwner),
            };
            (owner, asked, told)
        });
        let (mut parts, mut open, mut whys) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (owner, asked, told) in join_all(asking).await {
            match told {
                Ok(part) => {
                    let left = asked.into_iter().filter(|(home, _)| part.elsewhere.contains(home));
                    open.extend(left.flat_map(|(_, events)| events));
                    whys.extend(owner.filter(|_| !part.elsewhere.is_empty()).map(Unasked::Idle));
                    parts.push(part);
                }
                Err(why) => {
                    open.extend(asked.into_values().flatten());
                    whys.insert(why);
                }
            }
        }
        Gathered { parts, open, whys }
    }

    /// In how many partitions the symbols are cut, and whom to ask about which of these events.
    async fn owners(
        &self,
        payload: &Payload,
        events: &[usize],
        until: Instant,
    ) -> Result<(u16, BTreeMap<Option<String>, Homes>), Unasked> {
        let looking = async {
            let count = self.others.count().await?;
            let homes = payload.homes(events, count);
            let partitions: Vec<_> = homes.keys().copied().collect();
            Ok((count, homes, self.others.holders(&partitions).await?))
        };
        let found = timeout_at(until, looking).await;
        let found = found.map_err(|_| Unasked::Unknown("NATS does not answer".to_owned()))?;
        let (count, homes, holders) =
            found.map_err(|fault: nats::BucketError| Unasked::Unknown(fault.to_string()))?;
        let mut owners = BTreeMap::<_, Homes>::new();
        for (holder, (home, events)) in holders.into_iter().zip(homes) {
            owners.entry(holder).or_default().insert(home, events);
        }
        Ok((count, owners))
    }

    async fn ask(
        &self,
        owner: &str,
        payload: &Arc<Payload>,
        asked: &Homes,
        count: u16,
        permit: &Permit,
        until: Instant,
    ) -> Result<Part, Unasked> {
        if *owner == *self.me {
            let judged = self.judge_own(payload, asked.clone(), permit).await;
            return judged.map_err(|fault| failed(owner, fault));
        }
        let told = self.ask_another(owner, payload, asked, count, permit, until).await;
        self.metrics.asked(told.is_ok());
        told
    }

    async fn ask_another(
        &self,
        owner: &str,
        payload: &Payload,
        asked: &Homes,
        count: u16,
        permit: &Permit,
        until: Instant,
    ) -> Result<Part, Unasked> {
        let partitions = Partitions { asked: asked.keys().copied().collect(), count };
        let question = Question::message(&payload.raw, &partitions);
        let patience = until.saturating_duration_since(Instant::now());
        let answer = timeout_at(until, self.others.ask(owner, question, patience)).await;
        let answer = answer.map_err(|_| Unasked::Late(owner.to_owned()))?;
        let answer = answer.map_err(|fault| match Instant::now() < until {
            true => Unasked::by(owner, fault),
            false => Unasked::Late(owner.to_owned()),
        })?;
        // An answer is as long as a message may be.
        let part = blocking(permit, move || serde_json::from_slice::<Part>(&answer)).await;
        let part = part.map_err(|fault| failed(owner, fault))?;
        let part = part.map_err(|fault| failed(owner, fault))?;
        // Who is configured in another way may read it in another way.
        let ours = asked.iter().filter(|(home, _)| !part.elsewhere.contains(home));
        let events: usize = ours.map(|(_, events)| events.len()).sum();
        match part.tick_count.checked_add(part.rejection_count) == Some(events) {
            true => Ok(part),
            false => Err(Unasked::Otherwise(owner.to_owned())),
        }
    }

    /// What our own memory makes of the events of these partitions, as far as they are ours.
    pub(super) async fn judge_own(
        &self,
        payload: &Arc<Payload>,
        asked: Homes,
        permit: &Permit,
    ) -> Result<Part, Refusal> {
        let Some(known) = self.peek.ask(judge::subject(payload, &asked)).await else {
            let elsewhere = asked.into_keys().collect();
            return Ok(Part { elsewhere, ..Part::default() });
        };
        let (reading, payload) = (Arc::clone(&self.reading), Arc::clone(payload));
        blocking(permit, move || judge::judge(&payload, asked, &reading.rules, known)).await
    }
}

fn failed(instance: &str, fault: impl ToString) -> Unasked {
    Unasked::Failed { instance: instance.to_owned(), fault: fault.to_string() }
}
