//! The configuration of the archive.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ArchiveError;

/// Where raw payloads are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Secret: where raw payloads are kept, a MongoDB address (`mongodb://…`, `mongodb+srv://…`)
    /// or `none` for nowhere; empty is the SQLite file `raw.db` in the data directory of the
    /// instance that archives.
    pub url: String,
    /// The MongoDB database that the collection `raw_ticks` is in.
    pub database: String,
    /// How long a payload is kept after it was received, in hours; 0 is for ever.
    pub max_age_hours: u64,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { url: String::new(), database: "lizards".to_owned(), max_age_hours: 0 }
    }
}

/// The kinds of places that an archive can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// Nothing is archived.
    Nowhere,
    /// The embedded database.
    Sqlite,
    /// A MongoDB server.
    #[cfg(feature = "mongodb")]
    MongoDb,
}

/// What MongoDB can express: a TTL index counts seconds in 31 bits.
const MAX_AGE_HOURS: u64 = i32::MAX as u64 / 3_600;

impl ArchiveConfig {
    /// Checks every key; the error names the one at fault.
    pub fn validate(&self) -> Result<(), ArchiveError> {
        self.place().map(drop)
    }

    /// Where the archive is, by a configuration that is right in every key.
    pub(super) fn place(&self) -> Result<Where, ArchiveError> {
        if self.max_age_hours > MAX_AGE_HOURS {
            let fault =
                format!("{} hours are more than the {MAX_AGE_HOURS} allowed", self.max_age_hours);
            return Err(ArchiveError::Config { key: "max_age_hours", fault });
        }
        match self.url.as_str() {
            "" => Ok(Where::Sqlite),
            "none" => Ok(Where::Nowhere),
            url if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") => {
                check_database(&self.database)?;
                mongodb_place(url)
            }
            _ => Err(wrong_url(
                "neither empty, nor `none`, nor a mongodb:// or mongodb+srv:// address",
            )),
        }
    }

    /// How long a payload is kept; `None` is for ever.
    pub(super) fn max_age(&self) -> Option<Duration> {
        (self.max_age_hours > 0)
            .then(|| Duration::from_secs(self.max_age_hours.saturating_mul(3_600)))
    }
}

fn wrong_url(fault: impl Into<String>) -> ArchiveError {
    ArchiveError::Config { key: "url", fault: fault.into() }
}

/// See "Naming Restrictions" in the MongoDB manual; the strictest of its platforms counts.
fn check_database(name: &str) -> Result<(), ArchiveError> {
    let forbidden = |c: char| "/\\. \"$*<>:|?".contains(c) || c.is_control();
    if name.is_empty() || name.len() > 63 || name.contains(forbidden) {
        let fault = format!("{name:?} cannot name a MongoDB database");
        return Err(ArchiveError::Config { key: "database", fault });
    }
    Ok(())
}

#[cfg(feature = "mongodb")]
fn mongodb_place(url: &str) -> Result<Where, ArchiveError> {
    super::mongo::check_url(url).map(|()| Where::MongoDb).map_err(wrong_url)
}

#[cfg(not(feature = "mongodb"))]
fn mongodb_place(_: &str) -> Result<Where, ArchiveError> {
    Err(wrong_url("it names a MongoDB, but this program was built without the feature `mongodb`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(change: impl FnOnce(&mut ArchiveConfig)) -> Result<Where, String> {
        let mut config = ArchiveConfig::default();
        change(&mut config);
        config.place().map_err(|error| error.to_string())
    }

    #[test]
    fn the_url_says_which_store_it_is() {
        assert_eq!(place(|_| ()), Ok(Where::Sqlite));
        assert_eq!(place(|config| config.url = "none".into()), Ok(Where::Nowhere));
        let mongodb = place(|config| config.url = "mongodb://user:word@db.example:27017".into());
        if cfg!(feature = "mongodb") {
            assert!(mongodb.is_ok(), "{mongodb:?}");
        } else {
            assert!(mongodb.unwrap_err().contains("built without the feature `mongodb`"));
        }
    }

    #[test]
    fn a_wrong_value_is_told_by_its_key_and_never_shown() {
        for url in ["redis://me:hunter2@host", "mongodb://me:hun:ter2/@host:x", "mongodb://"] {
            let error = place(|config| config.url = url.into()).unwrap_err();
            assert!(error.starts_with("ingest.archive.url: "), "{error}");
            assert!(!error.contains("ter2"), "{error}");
        }
        let error = place(|config| config.max_age_hours = u64::MAX).unwrap_err();
        assert!(error.starts_with("ingest.archive.max_age_hours: "), "{error}");
        let error = place(|config| {
            config.url = "mongodb://host".into();
            config.database = "a/b".into();
        });
        let expected = "ingest.archive.database: \"a/b\" cannot name a MongoDB database";
        assert_eq!(error.unwrap_err(), expected);
    }
}
