//! Changing which sources run and what they follow: what the command line and HTTP have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use nats::{Bucket, BucketError, Nats};
use schemas::{
    HtmlSite, Records, Source as Name, SourceSetting, Symbol, http::SourceStatus, subject,
};

use crate::{
    board,
    config::{Config, ConfigError},
    plan::Configured,
    report,
    roster::Entry,
    settings,
    sharing::slices,
};

/// How often a change is tried where others change the same source at the same time.
const ATTEMPTS: usize = 10;

/// Reads and writes what is set of the sources: the keys `sources.<name>` of the bucket `config`,
/// which every instance follows.
pub struct Control {
    configured: Configured,
    settings: Bucket,
    reports: Bucket,
}

/// A change that is not made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody fetches that.
    #[error("{0}")]
    Unknown(String),
    /// The source cannot be run like that.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// Others change the same source all the time.
    #[error("the setting of {0} is being changed by others; try again")]
    Busy(Name),
    /// The buckets cannot be read or written.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl Control {
    /// Opens the buckets. What a source can be is read off the same configuration that the
    /// instances have.
    pub async fn open(
        nats: &Nats,
        config: Config,
        sites: Vec<HtmlSite>,
        records: Vec<Records>,
    ) -> Result<Self, BucketError> {
        let configured = Configured { config, sites, records };
        let (settings, reports) = (settings::bucket(nats).await?, board::bucket(nats).await?);
        Ok(Self { configured, settings, reports })
    }

    /// How every source is that is configured, set or fetched.
    pub async fn all(&self) -> Result<Vec<SourceStatus>, BucketError> {
        let reports = board::read(&self.reports).await?;
        let now = Timestamp::now();
        let mut known: BTreeMap<Name, Entry> = BTreeMap::new();
        let set = self.settings.entries().await?;
        let set: BTreeMap<_, _> = set
            .into_iter()
            .filter_map(|(key, value, _)| Some((subject::source_of_setting(&key)?, value)))
            .collect();
        for name in self.configured.names().chain(set.keys().cloned()) {
            known.insert(name.clone(), self.entry(&name, set.get(&name)));
        }
        let told = reports.values().flat_map(|report| report.sources.keys());
        let names: BTreeSet<_> = known.keys().chain(told).collect();
        let status = |name: &Name| report::status(name, known.get(name), &reports, now);
        Ok(names.into_iter().filter_map(status).collect())
    }

    /// How a source is that is configured, set or fetched.
    pub async fn one(&self, name: &Name) -> Result<SourceStatus, ControlError> {
        let all = self.all().await?;
        let found = all.into_iter().find(|status| status.name == name.as_str());
        found.ok_or_else(|| ControlError::Unknown(format!("there is no source {name}")))
    }

    /// Runs a source, for these symbols or for those that are configured.
    pub async fn add(
        &self,
        name: &Name,
        symbols: Option<Vec<Symbol>>,
    ) -> Result<SourceSetting, ControlError> {
        let setting = SourceSetting { enabled: Some(true), symbols };
        self.change(name, |_| Ok(setting.clone())).await
    }

    /// Runs a source no more, until it is added again or reset.
    pub async fn remove(&self, name: &Name) -> Result<SourceSetting, ControlError> {
        let setting = SourceSetting { enabled: Some(false), symbols: None };
        self.change(name, |before| match self.configured.plan(name, before) {
            Ok(plan) if !plan.enabled && before.enabled.is_none() => {
                Err(ControlError::Unknown(format!("no source {name} is run")))
            }
            _ => Ok(setting.clone()),
        })
        .await
    }

    /// Does away with what was set: the source is again what its configuration says.
    pub async fn reset(&self, name: &Name) -> Result<(), ControlError> {
        Ok(self.settings.delete(&subject::setting_of(name), None).await?)
    }

    /// Lets a source that is run fetch these symbols, too.
    pub async fn follow(
        &self,
        name: &Name,
        symbols: &[Symbol],
    ) -> Result<SourceSetting, ControlError> {
        self.change_symbols(name, |followed| {
            followed.extend(symbols.iter().cloned());
            Ok(())
        })
        .await
    }

    /// Lets a source that is run fetch these symbols no more.
    pub async fn unfollow(
        &self,
        name: &Name,
        symbols: &[Symbol],
    ) -> Result<SourceSetting, ControlError> {
        self.change_symbols(name, |followed| match symbols.iter().find(|s| !followed.remove(*s)) {
            Some(symbol) => {
                Err(ControlError::Unknown(format!("the source {name} does not follow {symbol}")))
            }
            None => Ok(()),
        })
        .await
    }

    async fn change_symbols(
        &self,
        name: &Name,
        edit: impl Fn(&mut BTreeSet<Symbol>) -> Result<(), ControlError>,
    ) -> Result<SourceSetting, ControlError> {
        self.change(name, |before| {
            let plan = self.configured.plan(name, before)?;
            let Some(source) = plan.source.filter(|_| plan.enabled) else {
                return Err(ControlError::Unknown(format!("no source {name} is run")));
            };
            let mut symbols = source.symbols().into_iter().collect();
            edit(&mut symbols)?;
            let symbols = Some(symbols.into_iter().collect());
            Ok(SourceSetting { enabled: before.enabled, symbols })
        })
        .await
    }

    /// Writes what `edit` makes of the setting, unless somebody else wrote in between: then it is
    /// edited anew.
    async fn change(
        &self,
        name: &Name,
        edit: impl Fn(&SourceSetting) -> Result<SourceSetting, ControlError>,
    ) -> Result<SourceSetting, ControlError> {
        let key = subject::setting_of(name);
        for _ in 0..ATTEMPTS {
            let before = self.settings.get(&key).await?;
            // One that cannot be read counts for nothing, here as everywhere.
            let setting = before.as_ref().and_then(|(value, _)| settings::parse(value).ok());
            let setting = edit(&setting.unwrap_or_default())?;
            self.configured.plan(name, &setting)?;
            // Texts always become JSON.
            let value = Bytes::from(serde_json::to_vec(&setting).unwrap_or_default());
            let revision = before.map(|(_, revision)| revision);
            if self.settings.replace(&key, value, revision).await?.is_some() {
                return Ok(setting);
            }
        }
        Err(ControlError::Busy(name.clone()))
    }

    /// What we would make of a source, as an instance does.
    fn entry(&self, name: &Name, value: Option<&Bytes>) -> Entry {
        let setting = value.map_or_else(|| Ok(SourceSetting::default()), settings::parse);
        let planned = setting.and_then(|setting| {
            self.configured.plan(name, &setting).map_err(|fault| fault.to_string())
        });
        let plan = match planned {
            Ok(plan) => plan,
            // The last good one may still run.
            Err(fault) => {
                return Entry { enabled: true, setting_error: Some(fault), ..Entry::default() };
            }
        };
        let mut entry = Entry { enabled: plan.enabled, ..Entry::default() };
        if let Some(source) = plan.source {
            entry.url = source.url();
            let symbols = source.symbols().into_iter().collect();
            entry.slices = slices(&*source, &symbols);
            entry.symbols = Arc::new(symbols);
        }
        entry
    }
}
