//! What is to run: the configuration, and what was set while running instead of it.

use std::sync::Arc;

use schemas::{HtmlSite, Records, Source as Name, SourceSetting};

use crate::{
    config::{Config, ConfigError},
    source::Source,
    sources,
};

/// What can be fetched, as this process is configured.
#[derive(Clone)]
pub(crate) struct Configured {
    pub(crate) config: Config,
    pub(crate) sites: Vec<HtmlSite>,
    pub(crate) records: Vec<Records>,
}

/// What is to become of a source.
pub(crate) struct Plan {
    /// Whether it is to be fetched.
    pub(crate) enabled: bool,
    /// The source, not started. One that is not to be fetched need not be fit to be.
    pub(crate) source: Option<Arc<dyn Source>>,
}

impl Configured {
    /// Whether the configuration runs the source.
    pub(crate) fn runs(&self, name: &Name) -> bool {
        self.config.sources.iter().any(|configured| configured == name.as_str())
    }

    /// The sources that the configuration runs.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        self.config.sources.iter().filter_map(|name| Name::new(name).ok())
    }

    /// What is to become of a source of which this was set. A setting that nothing can be done with
    /// is an error.
    pub(crate) fn plan(&self, name: &Name, setting: &SourceSetting) -> Result<Plan, ConfigError> {
        let enabled = setting.enabled.unwrap_or_else(|| self.runs(name));
        let Self { config, sites, records } = self;
        let built = match &setting.symbols {
            Some(symbols) => sources::build_for(config, sites, records, name.as_str(), symbols),
            None => sources::build_one(config, sites, records, name.as_str()),
        };
        let source = if enabled { Some(built?) } else { built.ok() };
        Ok(Plan { enabled, source })
    }
}
