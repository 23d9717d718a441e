//! From what the memories say to the answer.

use std::collections::BTreeSet;

use schemas::{DryRun, DryRunStatus, NotAsked, Symbol};

use super::{
    judge::{Part, shorten},
    others::Unasked,
    payload::Payload,
};
use crate::validate::Rules;

/// How long the list of the symbols that could not be asked about may be, as JSON: beside the other two
/// it has to go into one message of NATS.
const MAX_SYMBOLS_BYTES: usize = 64 * 1024;
/// How long the reasons why may be.
const MAX_WHY_CHARS: usize = 4 * 1024;

/// Puts together the parts, of which each event is in one.
pub(super) fn join(payload: &Payload, parts: Vec<Part>, not_asked: Option<NotAsked>) -> DryRun {
    let mut all = Part::default();
    for part in parts {
        all.tick_count += part.tick_count;
        all.rejection_count += part.rejection_count;
        all.ticks.extend(part.ticks);
        all.rejections.extend(part.rejections);
    }
    all.ticks.sort_by_key(|(event, _)| *event);
    all.rejections.sort_by_key(|rejection| rejection.event);
    all.shorten();
    let Part { tick_count, rejection_count, ticks, rejections, .. } = all;
    let shown = ticks.len() + rejections.len();
    let raw = &payload.raw;
    DryRun {
        status: match (tick_count, rejection_count) {
            (_, 0) => DryRunStatus::Accepted,
            (0, _) => DryRunStatus::Rejected,
            _ => DryRunStatus::PartlyRejected,
        },
        source: raw.source.clone(),
        format: raw.format.as_str().to_owned(),
        detected: payload.detected,
        received_at: raw.received_at,
        tick_count,
        rejection_count,
        left_out: (tick_count + rejection_count).saturating_sub(shown),
        not_asked,
        ticks: ticks.into_iter().map(|(_, tick)| tick).collect(),
        rejections,
    }
}

/// The rules that judge by a memory which could not be asked about these events, and why.
pub(super) fn not_asked(
    payload: &Payload,
    events: &[usize],
    rules: &Rules,
    whys: &BTreeSet<Unasked>,
) -> Option<NotAsked> {
    let symbols: BTreeSet<Symbol> =
        payload.of(events).map(|(_, event)| event.symbol.clone()).collect();
    let count = symbols.len();
    let mut symbols: Vec<_> = symbols.into_iter().collect();
    shorten(&mut symbols, MAX_SYMBOLS_BYTES);
    let whys: Vec<_> = whys.iter().map(ToString::to_string).collect();
    let mut why: String = whys.join("; ").chars().take(MAX_WHY_CHARS).collect();
    if symbols.len() < count {
        why += &format!(" (and {} symbols more)", count - symbols.len());
    }
    (count > 0).then(|| NotAsked {
        rules: rules.with_memory().into_iter().map(str::to_owned).collect(),
        symbols: symbols.into_iter().collect(),
        why,
    })
}
