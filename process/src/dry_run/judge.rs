//! What one memory makes of the events that it knows about.

use std::collections::BTreeSet;

use schemas::{DryRejection, Rejection, Tick};
use serde::{Deserialize, Serialize};

use super::payload::{Homes, Payload};
use crate::{
    engine::peek::{Excerpt, Subject},
    validate::{Context, Rules, State, tick_id},
};

/// How long the lists of an answer may be, as JSON: it goes into one message of NATS, which takes a
/// mebibyte.
const MAX_TICKS_BYTES: usize = 576 * 1024;
const MAX_REJECTIONS_BYTES: usize = 192 * 1024;

/// What becomes of some events of a payload. What one instance tells another, too: its lists are as long
/// as those of a whole answer, so what that shows of these events is in here.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) tick_count: usize,
    pub(super) rejection_count: usize,
    /// The first of the ticks, with the numbers of their events.
    pub(super) ticks: Vec<(usize, Tick)>,
    /// The first of the rejections.
    pub(super) rejections: Vec<DryRejection>,
    /// The partitions that were asked about and are not of this memory: their events are not judged.
    pub(super) elsewhere: BTreeSet<u16>,
}

/// What the rules will want to know of the pipeline's memory.
pub(super) fn subject(payload: &Payload, asked: &Homes) -> Subject {
    let mut subject = Subject { payload: payload.raw.symbol.clone(), ..Subject::default() };
    for (number, event) in payload.of(asked.values().flatten()) {
        subject.symbols.insert(event.symbol.clone());
        subject.ids.push(tick_id(event, &payload.raw, number));
    }
    subject
}

/// Judges as the pipeline does, by the rules and what it remembers.
pub(super) fn judge(payload: &Payload, asked: Homes, rules: &Rules, known: Excerpt) -> Part {
    let Excerpt { mut state, sequence, elsewhere } = known;
    let is_elsewhere = |events: &Vec<usize>| {
        payload.of(events).any(|(_, event)| elsewhere.contains(&event.symbol))
    };
    let (theirs, ours): (Homes, Homes) =
        asked.into_iter().partition(|(_, events)| is_elsewhere(events));
    let events: BTreeSet<_> = ours.into_values().flatten().collect();
    let mut part = part(payload, events, rules, &mut state, sequence);
    part.elsewhere = theirs.into_keys().collect();
    part
}

/// Judges by what comes in the payload itself: of what was before it nothing is known.
pub(super) fn judge_alone(payload: &Payload, events: BTreeSet<usize>, rules: &Rules) -> Part {
    let mut state = State::new(events.len());
    part(payload, events, rules, &mut state, 0)
}

fn part(
    payload: &Payload,
    events: BTreeSet<usize>,
    rules: &Rules,
    state: &mut State,
    sequence: u64,
) -> Part {
    let raw = &payload.raw;
    let mut part = Part::default();
    for number in events {
        let Some(event) = payload.events.get(number) else { continue };
        let place = (sequence, number);
        let context = Context { raw, place, was_rejected: false, is_repeat: false };
        match event.clone().and_then(|event| rules.judge(event, &context, state)) {
            // Its payload is not in the stream.
            Ok(tick) => part.ticks.push((number, Tick { raw_seq: 0, ..tick })),
            Err(why) => part.rejections.push(rejection(number, why)),
        }
    }
    (part.tick_count, part.rejection_count) = (part.ticks.len(), part.rejections.len());
    part.shorten();
    part
}

impl Part {
    /// Cuts the lists where their JSON gets too long.
    pub(super) fn shorten(&mut self) {
        shorten(&mut self.ticks, MAX_TICKS_BYTES);
        shorten(&mut self.rejections, MAX_REJECTIONS_BYTES);
    }
}

fn rejection(event: usize, why: Rejection) -> DryRejection {
    let (symbol, price) = why.price.unzip();
    DryRejection {
        event,
        reason: why.reason.as_str().to_owned(),
        stage: why.stage.as_str().to_owned(),
        error: why.detail,
        symbol,
        price,
    }
}

/// Cuts a list where its JSON gets too long.
pub(super) fn shorten<T: Serialize>(list: &mut Vec<T>, limit: usize) {
    let mut size = 0;
    let fits = list.iter().take_while(|item| {
        // With the comma behind it.
        size += serde_json::to_vec(item).map_or(limit, |json| json.len() + 1);
        size <= limit
    });
    let fits = fits.count();
    list.truncate(fits);
}
