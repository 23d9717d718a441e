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
        if name.kind() == "push" {
            let fault =
                format!("\"{name}\" is fetched by nobody, and taken where ingest.push says so");
            return Err(ConfigError::new("sources", fault));
        }
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

#[cfg(test)]
mod tests {
    use schemas::Symbol;

    use super::*;

    fn plan(name: &str, setting: &SourceSetting) -> Result<(bool, Vec<Symbol>), String> {
        let configured =
            Configured { config: Config::default(), sites: Vec::new(), records: Vec::new() };
        let plan = configured.plan(&Name::new(name).unwrap(), setting);
        let plan = plan.map_err(|fault| fault.to_string())?;
        Ok((plan.enabled, plan.source.map(|source| source.symbols()).unwrap_or_default()))
    }

    fn set(enabled: Option<bool>, symbols: Option<&[&str]>) -> SourceSetting {
        let symbols = symbols.map(|names| names.iter().map(|n| Symbol::new(n).unwrap()).collect());
        SourceSetting { enabled, symbols }
    }

    #[test]
    fn what_is_not_set_is_as_configured() {
        let (enabled, symbols) = plan("sim", &set(None, None)).unwrap();
        assert_eq!((enabled, symbols.len()), (true, 7));
        let (enabled, symbols) = plan("coinbase", &set(None, Some(&["SOL-USD"]))).unwrap();
        assert_eq!((enabled, symbols.len()), (false, 1));
        let (enabled, symbols) = plan("coinbase", &set(Some(true), None)).unwrap();
        assert_eq!((enabled, symbols.len()), (true, 2));
        assert!(!plan("sim", &set(Some(false), None)).unwrap().0);
    }

    #[test]
    fn what_cannot_be_run_is_refused_unless_it_is_not_to_be() {
        for (name, setting, fault) in [
            ("nonsense", set(Some(true), None), "is not a source"),
            ("sim", set(None, Some(&[])), "at least one symbol is needed"),
            ("file", set(Some(true), Some(&["IBM"])), "has no symbols that can be chosen"),
            ("push:desk", set(Some(false), None), "ingest.push"),
        ] {
            let told = plan(name, &setting).unwrap_err();
            assert!(told.contains(fault), "{told}");
            let off = SourceSetting { enabled: Some(false), ..setting };
            assert_eq!(plan(name, &off).is_ok(), name != "push:desk");
        }
    }
}
