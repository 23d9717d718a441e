//! How the sources are, over all instances: each tells how those are that it fetches, and whoever is
//! asked puts it together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemas::{
    Source as Name,
    http::{QuotaLeft, SourceOwner, SourceState, SourceStatus},
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
    /// The slices that there are.
    pub(crate) slices: BTreeSet<u16>,
    /// The host that it asks, where whoever asks that has all sources that do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// The slices that the instance owns.
    pub(crate) owned: BTreeSet<u16>,
    /// How it is there.
    pub(crate) condition: Condition,
}

/// How a source is with an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
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
    let here = known.map(|entry| &entry.url);
    let there = told.first().map(|(_, report)| &report.url);
    let url = here.filter(|url| !url.is_empty()).or(there).or(here)?;
    let all = || told.iter().map(|(_, report)| &report.condition);
    let error = all().max_by_key(|condition| condition.last_error_at);
    let heard = all().filter_map(|condition| condition.last_heard).max();
    let lag = |at: Timestamp| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0);
    Some(SourceStatus {
        name: name.to_string(),
        url: url.clone(),
        state: state(known, &told),
        symbols: known.map(|entry| entry.symbols.iter().cloned().collect()).unwrap_or_default(),
        last_success: all().filter_map(|condition| condition.last_success).max(),
        lag_ms: heard.map(lag),
        last_error: error.and_then(|condition| condition.last_error.clone()),
        last_error_at: error.and_then(|condition| condition.last_error_at),
        published: all().map(|condition| condition.published).sum(),
        quota: all().filter_map(|condition| condition.quota).reduce(sum),
        setting_error: known.and_then(|entry| entry.setting_error.clone()),
        owners: told.iter().filter_map(|(instance, report)| report.owner(instance)).collect(),
    })
}

/// The worst that any owner does; what nobody owns stands by.
fn state(known: Option<&Entry>, told: &[(&String, &SourceReport)]) -> SourceState {
    if known.is_some_and(|entry| !entry.enabled) {
        return SourceState::Disabled;
    }
    let ours = known.map(|entry| &entry.slices);
    let mut slices = told.iter().map(|(_, report)| &report.slices).chain(ours).flatten();
    let is_owned = |slice| told.iter().any(|(_, report)| report.owned.contains(slice));
    let unowned = slices.any(|slice| !is_owned(slice)).then_some(SourceState::Standby);
    let states = told.iter().map(|(_, report)| report.condition.state);
    let doing = states.filter(|state| *state != SourceState::Standby);
    doing.chain(unowned).max().unwrap_or(SourceState::Standby)
}

impl SourceReport {
    /// The instance as an owner, if it is one.
    fn owner(&self, instance: &str) -> Option<SourceOwner> {
        let Condition { state, last_success, published, .. } = self.condition;
        (state != SourceState::Standby).then(|| SourceOwner {
            instance: instance.to_owned(),
            slices: self.owned.iter().copied().collect(),
            state,
            last_success,
            published,
        })
    }
}

impl Default for Condition {
    /// Before anything was fetched.
    fn default() -> Self {
        Self {
            state: SourceState::Standby,
            last_heard: None,
            last_success: None,
            last_error: None,
            last_error_at: None,
            published: 0,
            quota: None,
        }
    }
}

/// What is left to several instances together.
fn sum(one: QuotaLeft, other: QuotaLeft) -> QuotaLeft {
    let sum = |a: Option<u32>, b: Option<u32>| Some(a?.saturating_add(b?));
    QuotaLeft { minute: sum(one.minute, other.minute), day: sum(one.day, other.day) }
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

    fn condition(state: SourceState) -> Condition {
        let status = Status::of(&name());
        status.set(state);
        status.published();
        status.quota(QuotaLeft { minute: Some(2), day: None });
        status.snapshot()
    }

    fn reports(told: &[(&str, u16, Condition)]) -> BTreeMap<String, Report> {
        let report = |owned: u16, condition: &Condition| {
            let source = SourceReport {
                url: "sim:".into(),
                slices: [0].into(),
                host: None,
                owned: [owned].into(),
                condition: condition.clone(),
            };
            Report { sources: [(name(), source)].into() }
        };
        told.iter().map(|(me, owned, told)| ((*me).to_owned(), report(*owned, told))).collect()
    }

    fn entry(slices: u16) -> Entry {
        Entry {
            url: "sim:".into(),
            enabled: true,
            symbols: Arc::new([Symbol::new("IBM").unwrap()].into()),
            slices: (0..slices).collect(),
            ..Entry::default()
        }
    }

    #[test]
    fn whoever_is_asked_tells_what_the_others_do() {
        let now = Timestamp::now();
        let mut heard = condition(SourceState::Running);
        heard.last_heard = Some(now - jiff::SignedDuration::from_millis(1_500));
        let mut failing = condition(SourceState::BackingOff);
        (failing.last_error, failing.last_error_at) = (Some("cut".into()), Some(now));
        let reports = reports(&[("b", 1, failing), ("a", 0, heard)]);
        let told = status(&name(), Some(&entry(2)), &reports, now).unwrap();
        assert_eq!(told.state, SourceState::BackingOff);
        assert_eq!((told.published, told.lag_ms), (2, Some(1_500)));
        assert_eq!(told.quota, Some(QuotaLeft { minute: Some(4), day: None }));
        assert_eq!(told.last_error.as_deref(), Some("cut"));
        let owners = told.owners.iter().map(|owner| (&*owner.instance, &*owner.slices));
        assert_eq!(owners.collect::<Vec<_>>(), [("a", &[0][..]), ("b", &[1][..])]);
        assert_eq!(told.symbols.len(), 1);
        // An instance that is not configured for it knows it from the others.
        assert_eq!(status(&name(), None, &reports, now).unwrap().url, "sim:");
    }

    #[test]
    fn what_nobody_owns_stands_by() {
        let state = |entry: Option<&Entry>, reports| {
            status(&name(), entry, &reports, Timestamp::now()).map(|told| told.state)
        };
        let half = || reports(&[("a", 0, condition(SourceState::Running))]);
        assert_eq!(state(Some(&entry(1)), half()), Some(SourceState::Running));
        assert_eq!(state(Some(&entry(2)), half()), Some(SourceState::Standby));
        assert_eq!(state(Some(&entry(1)), BTreeMap::new()), Some(SourceState::Standby));
        let disabled = Entry { enabled: false, ..entry(1) };
        assert_eq!(state(Some(&disabled), half()), Some(SourceState::Disabled));
        assert_eq!(state(None, BTreeMap::new()), None);
    }
}
