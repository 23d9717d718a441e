//! From a payload that was read to the answer.

use std::collections::BTreeSet;

use schemas::{DryRejection, DryRun, DryRunStatus, NotAsked, Rejection, Tick};
use serde::Serialize;

use super::format::Payload;
use crate::{
    engine::peek::{Excerpt, Subject},
    validate::{Context, Rules, State, tick_id},
};

/// How long the lists of an answer may be, as JSON: it goes into one message of NATS, which takes a
/// mebibyte.
const MAX_TICKS_BYTES: usize = 576 * 1024;
const MAX_REJECTIONS_BYTES: usize = 192 * 1024;

/// What the rules will want to know of the pipeline's memory.
pub(super) fn subject(Payload { raw, events, .. }: &Payload) -> Subject {
    let mut subject = Subject { payload: raw.symbol.clone(), ..Subject::default() };
    for (index, event) in events.iter().enumerate() {
        if let Ok(event) = event {
            subject.symbols.insert(event.symbol.clone());
            subject.ids.push(tick_id(event, raw, index));
        }
    }
    subject
}

/// Judges as the pipeline does, by the rules and what it remembers.
pub(super) fn judge(payload: Payload, rules: &Rules, known: Option<Excerpt>) -> DryRun {
    let not_asked = not_asked(&payload, rules, known.as_ref());
    let Payload { raw, events, detected } = payload;
    let (mut state, sequence) = match known {
        Some(known) => (known.state, known.sequence),
        // Nothing is known but what comes in the payload itself.
        None => (State::new(events.len()), 0),
    };
    let (mut ticks, mut rejections) = (Vec::new(), Vec::new());
    for (index, event) in events.into_iter().enumerate() {
        let place = (sequence, index);
        let context = Context { raw: &raw, place, was_rejected: false, is_repeat: false };
        match event.and_then(|event| rules.judge(event, &context, &mut state)) {
            // Its payload is not in the stream.
            Ok(tick) => ticks.push(Tick { raw_seq: 0, ..tick }),
            Err(why) => rejections.push(rejection(index, why)),
        }
    }
    let (tick_count, rejection_count) = (ticks.len(), rejections.len());
    let left_out =
        shorten(&mut ticks, MAX_TICKS_BYTES) + shorten(&mut rejections, MAX_REJECTIONS_BYTES);
    DryRun {
        status: match (tick_count, rejection_count) {
            (_, 0) => DryRunStatus::Accepted,
            (0, _) => DryRunStatus::Rejected,
            _ => DryRunStatus::PartlyRejected,
        },
        source: raw.source,
        format: raw.format.as_str().to_owned(),
        detected,
        received_at: raw.received_at,
        tick_count,
        rejection_count,
        left_out,
        not_asked,
        ticks,
        rejections,
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

/// The rules that judge by a memory which is not here.
fn not_asked(payload: &Payload, rules: &Rules, known: Option<&Excerpt>) -> Option<NotAsked> {
    let (symbols, why) = match known {
        Some(known) => (known.elsewhere.clone(), "another instance processes these symbols"),
        None => {
            let symbols: BTreeSet<_> =
                payload.events.iter().flatten().map(|event| event.symbol.clone()).collect();
            (symbols, "this instance processes nothing at present")
        }
    };
    (!symbols.is_empty()).then(|| NotAsked {
        rules: rules.with_memory().into_iter().map(str::to_owned).collect(),
        symbols,
        why: why.to_owned(),
    })
}

/// Cuts a list where its JSON gets too long; how many are left out.
fn shorten<T: Serialize>(list: &mut Vec<T>, limit: usize) -> usize {
    let mut size = 0;
    let fits = list.iter().take_while(|item| {
        // With the comma behind it.
        size += serde_json::to_vec(item).map_or(limit, |json| json.len() + 1);
        size <= limit
    });
    let (fits, all) = (fits.count(), list.len());
    list.truncate(fits);
    all - fits
}
