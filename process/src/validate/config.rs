//! What the rules do, by configuration.

use schemars::JsonSchema;
use schemas::Source;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What the rules do: each is `off`, or it marks a tick (`flag`), or it keeps the event out of
/// `TICKS` (`reject`). What has not the shape of a tick, a price that is not positive, a negative
/// size or an event that is a tick already is rejected always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// An event dated more than `process.max_future_secs` after its reception. One that is flagged is
    /// in no candle of the stream and fires no alert.
    pub future: Action,
    /// An event that was older when it was received than `max_age` allows its source.
    pub stale: Action,
    /// How old the events of a source may be, in seconds, as `SOURCE=SECONDS`; those of a source
    /// not named here may have any age. A kind such as `html` names all its sources.
    pub max_age: Vec<String>,
    /// An event dated before the newest of the same symbol and source.
    pub out_of_order: Action,
    /// A price that is far from those before it. Real trades are sometimes: `reject` loses them.
    pub outlier: Action,
    /// How far a price may be from the median of those before it, in hundredths of a percent,
    /// where they do not differ more themselves.
    pub outlier_basis_points: u32,
    /// An event before or after the regular session of its exchange (see `process.calendars`).
    pub extended_hours: Action,
    /// An event while its exchange is closed (see `process.calendars`).
    pub closed: Action,
    /// A symbol that no source has announced: it is not in the list under the key `symbols` of
    /// the bucket `config`.
    pub unknown_symbol: Action,
    /// A symbol whose trading is halted: it is in the list under the key `halted` of the bucket
    /// `config`, which an operator writes.
    pub halted: Action,
}

/// What a rule does with an event that breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing.
    Off,
    /// It becomes a tick with a flag.
    Flag,
    /// It does not become a tick.
    Reject,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self {
            future: Action::Reject,
            stale: Action::Flag,
            max_age: Vec::new(),
            out_of_order: Action::Flag,
            outlier: Action::Flag,
            outlier_basis_points: 300,
            extended_hours: Action::Flag,
            closed: Action::Flag,
            unknown_symbol: Action::Off,
            halted: Action::Flag,
        }
    }
}

impl RulesConfig {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let wrong = |key, fault: String| Err(Error::Config { key, fault });
        if !(1..=5_000).contains(&self.outlier_basis_points) {
            let fault = format!("must be 1 to 5000, not {}", self.outlier_basis_points);
            return wrong("process.rules.outlier_basis_points", fault);
        }
        let mut named = Vec::new();
        for rule in &self.max_age {
            let Some((source, _)) = read_max_age(rule) else {
                let fault = format!("{rule:?} is not SOURCE=SECONDS, as coinbase=60 is");
                return wrong("process.rules.max_age", fault);
            };
            if named.contains(&source) {
                return wrong("process.rules.max_age", format!("{source:?} is there twice"));
            }
            named.push(source);
        }
        Ok(())
    }

    /// How old an event of the source may be, in seconds: its own rule, else that of its kind.
    pub(super) fn max_age_secs(&self, source: &Source) -> Option<u32> {
        let of = |name: &str| {
            self.max_age.iter().filter_map(|rule| read_max_age(rule)).find(|(s, _)| *s == name)
        };
        of(source.as_str()).or_else(|| of(source.kind())).map(|(_, seconds)| seconds)
    }
}

fn read_max_age(rule: &str) -> Option<(&str, u32)> {
    let (source, seconds) = rule.split_once('=')?;
    Source::new(source).ok()?;
    Some((source, seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_source_is_its_own_or_that_of_its_kind() {
        let max_age = ["html=60".to_owned(), "html:slow=3600".to_owned()].into();
        let config = RulesConfig { max_age, ..RulesConfig::default() };
        assert!(config.validate().is_ok());
        let of = |source: &str| config.max_age_secs(&Source::new(source).unwrap());
        assert_eq!(of("html:shop"), Some(60));
        assert_eq!(of("html:slow"), Some(3600));
        assert_eq!(of("sim"), None);
    }

    #[test]
    fn a_fault_names_its_key() {
        for (config, fault) in [
            (
                RulesConfig { max_age: vec!["sim=soon".into()], ..RulesConfig::default() },
                "process.rules.max_age: \"sim=soon\" is not SOURCE=SECONDS, as coinbase=60 is",
            ),
            (
                RulesConfig {
                    max_age: vec!["sim=1".into(), "sim=2".into()],
                    ..RulesConfig::default()
                },
                "process.rules.max_age: \"sim\" is there twice",
            ),
            (
                RulesConfig { outlier_basis_points: 0, ..RulesConfig::default() },
                "process.rules.outlier_basis_points: must be 1 to 5000, not 0",
            ),
        ] {
            assert_eq!(config.validate().unwrap_err().to_string(), fault);
        }
    }
}
