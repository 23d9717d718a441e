//! How the sources are, over all instances: each tells how those are that it fetches, and whoever is
//! asked puts it together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemas::{
    Source as Name,
    http::{QuotaLeft, SliceStatus, SourceState, SourceStatus},
};
use serde::{Deserialize, Serialize};

use crate::roster::Entry;

/// What an instance tells of its sources: the value of its key in the bucket `sources`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// All that it could fetch.
    pub(crate) sources: BTreeMap<Name, SourceReport>,
}

/// What an instance tells of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceReport {
    /// Where it is fetched from.
    pub(crate) url: String,
    /// The slices that the instance owns.
    pub(crate) slices: Vec<SliceReport>,
}

/// How a slice is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SliceReport {
    pub(crate) slice: u16,
    pub(crate) state: SourceState,
    /// When the provider last gave something, new or not.
    pub(crate) last_heard: Option<Timestamp>,
    pub(crate) last_success: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<Timestamp>,
    pub(crate) published: u64,
    /// What is left of the instance's share of the quota.
    pub(crate) quota: Option<QuotaLeft>,
}

/// How a source is, by all reports and by what is known of it here; nothing where nobody knows it.
pub(crate) fn status(
    name: &Name,
    known: Option<&Entry>,
    reports: &BTreeMap<String, Report>,
    now: Timestamp,
) -> Option<SourceStatus> {
    let told: Vec<_> = reports
        .iter()
        .filter_map(|(instance, report)| Some((instance, report.sources.get(name)?)))
        .collect();
    let url = known.map(|entry| &entry.url).or(told.first().map(|(_, report)| &report.url))?;
    let all = || told.iter().flat_map(|(_, report)| &report.slices);
    let mut slices: Vec<_> = told
        .iter()
        .flat_map(|(owner, report)| report.slices.iter().map(|slice| slice_status(owner, slice)))
        .collect();
    slices.sort_by_key(|slice| slice.slice);
    let error = all().max_by_key(|slice| slice.last_error_at);
    let heard = all().filter_map(|slice| slice.last_heard).max();
    let lag = |at: Timestamp| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0);
    Some(SourceStatus {
        name: name.to_string(),
        url: url.clone(),
        state: state(known, &slices),
        symbols: known.map(|entry| entry.symbols.iter().cloned().collect()).unwrap_or_default(),
        last_success: all().filter_map(|slice| slice.last_success).max(),
        lag_ms: heard.map(lag),
        last_error: error.and_then(|slice| slice.last_error.clone()),
        last_error_at: error.and_then(|slice| slice.last_error_at),
        published: all().map(|slice| slice.published).sum(),
        quota: all().filter_map(|slice| slice.quota).reduce(sum),
        setting_error: known.and_then(|entry| entry.setting_error.clone()),
        slices,
    })
}

/// The worst that any slice does; one that nobody owns does nothing.
fn state(known: Option<&Entry>, slices: &[SliceStatus]) -> SourceState {
    if known.is_some_and(|entry| !entry.enabled) {
        return SourceState::Disabled;
    }
    let wanted = known.map_or(1, |entry| entry.slices.len());
    let unowned = (slices.len() < wanted.max(1)).then_some(SourceState::Standby);
    slices.iter().map(|slice| slice.state).chain(unowned).max().unwrap_or(SourceState::Standby)
}

/// What is left to several instances together.
fn sum(one: QuotaLeft, other: QuotaLeft) -> QuotaLeft {
    let sum = |a: Option<u32>, b: Option<u32>| Some(a?.saturating_add(b?));
    QuotaLeft { minute: sum(one.minute, other.minute), day: sum(one.day, other.day) }
}

fn slice_status(owner: &str, slice: &SliceReport) -> SliceStatus {
    SliceStatus {
        slice: slice.slice,
        owner: owner.to_owned(),
        state: slice.state,
        last_success: slice.last_success,
        published: slice.published,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::Symbol;

    use super::*;
    use crate::status::Status;

    fn name() -> Name {
        Name::new("sim").unwrap()
    }

    fn slice(number: u16, state: SourceState) -> SliceReport {
        let status = Status::of(&name(), number);
        status.set(state);
        status.published();
        status.quota(QuotaLeft { minute: Some(2), day: None });
        status.snapshot()
    }

    fn reports(slices: &[(&str, Vec<SliceReport>)]) -> BTreeMap<String, Report> {
        let report = |slices: &Vec<SliceReport>| {
            let source = SourceReport { url: "sim:".into(), slices: slices.clone() };
            Report { sources: [(name(), source)].into() }
        };
        slices.iter().map(|(me, slices)| ((*me).to_owned(), report(slices))).collect()
    }

    fn entry(slices: u16) -> Entry {
        Entry {
            url: "sim:".into(),
            enabled: true,
            symbols: Arc::new([Symbol::new("IBM").unwrap()].into()),
            slices: (0..slices).map(|n| Arc::new(Status::of(&name(), n))).collect(),
            ..Entry::default()
        }
    }

    #[test]
    fn whoever_is_asked_tells_what_the_others_do() {
        let now = Timestamp::now();
        let mut heard = slice(0, SourceState::Running);
        heard.last_heard = Some(now - jiff::SignedDuration::from_millis(1_500));
        let mut failing = slice(1, SourceState::BackingOff);
        (failing.last_error, failing.last_error_at) = (Some("cut".into()), Some(now));
        let reports = reports(&[("b", vec![failing]), ("a", vec![heard])]);
        let told = status(&name(), Some(&entry(2)), &reports, now).unwrap();
        assert_eq!(told.state, SourceState::BackingOff);
        assert_eq!((told.published, told.lag_ms), (2, Some(1_500)));
        assert_eq!(told.quota, Some(QuotaLeft { minute: Some(4), day: None }));
        assert_eq!(told.last_error.as_deref(), Some("cut"));
        let owners: Vec<_> = told.slices.iter().map(|slice| (slice.slice, &*slice.owner)).collect();
        assert_eq!(owners, [(0, "a"), (1, "b")]);
        assert_eq!(told.symbols.len(), 1);
        // An instance that is not configured for it knows it from the others.
        assert_eq!(status(&name(), None, &reports, now).unwrap().url, "sim:");
    }

    #[test]
    fn what_nobody_owns_stands_by() {
        let state = |entry: Option<&Entry>, reports| {
            status(&name(), entry, &reports, Timestamp::now()).map(|told| told.state)
        };
        let half = || reports(&[("a", vec![slice(0, SourceState::Running)])]);
        assert_eq!(state(Some(&entry(1)), half()), Some(SourceState::Running));
        assert_eq!(state(Some(&entry(2)), half()), Some(SourceState::Standby));
        assert_eq!(state(Some(&entry(1)), BTreeMap::new()), Some(SourceState::Standby));
        let disabled = Entry { enabled: false, ..entry(1) };
        assert_eq!(state(Some(&disabled), half()), Some(SourceState::Disabled));
        assert_eq!(state(None, BTreeMap::new()), None);
    }
}
