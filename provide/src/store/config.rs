//! The configuration section `provide.store`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
#[cfg(feature = "postgres")]
use sqlx::postgres::PgConnectOptions;

use super::StoreError;

const WRITER_URL: &str = "provide.store.writer_url";
const READER_URL: &str = "provide.store.reader_url";
const MAX_CONNECTIONS: &str = "provide.store.max_connections";

/// Where normalised ticks are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Secret: the PostgreSQL database and the role that owns and writes the ticks, as
    /// `postgres://role:password@host/database`. Empty: embedded SQLite, `lizards.db` in the data
    /// directory.
    pub writer_url: String,
    /// Secret: the same database and the role that can only SELECT from it. Empty: embedded
    /// SQLite.
    pub reader_url: String,
    /// How many connections reading may use at a time.
    pub max_connections: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { writer_url: String::new(), reader_url: String::new(), max_connections: 8 }
    }
}

/// What a configuration means.
pub(super) enum Backend {
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres(Box<Roles>),
}

/// The same database with its two roles.
#[cfg(feature = "postgres")]
pub(super) struct Roles {
    pub(super) writer: PgConnectOptions,
    pub(super) reader: PgConnectOptions,
}

impl StoreConfig {
    /// Checks what can be checked without the store itself.
    pub fn validate(&self) -> Result<(), StoreError> {
        self.backend().map(drop)
    }

    pub(super) fn backend(&self) -> Result<Backend, StoreError> {
        let wrong = |key, fault: &str| Err(StoreError::Config { key, fault: fault.to_owned() });
        if self.max_connections == 0 {
            return wrong(MAX_CONNECTIONS, "at least one connection is needed");
        }
        match (self.writer_url.is_empty(), self.reader_url.is_empty()) {
            (true, true) => Ok(Backend::Sqlite),
            (true, false) => wrong(WRITER_URL, "is empty, but reader_url is not: give both"),
            (false, true) => wrong(READER_URL, "is empty, but writer_url is not: give both"),
            (false, false) => self.postgres(),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Result<Backend, StoreError> {
        let writer = options(WRITER_URL, &self.writer_url)?;
        let reader = options(READER_URL, &self.reader_url)?;
        Ok(Backend::Postgres(Box::new(Roles { writer, reader })))
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(&self) -> Result<Backend, StoreError> {
        Err(StoreError::Config {
            key: WRITER_URL,
            fault: "this build has no PostgreSQL: build with the cargo feature `postgres`".into(),
        })
    }
}

#[cfg(feature = "postgres")]
fn options(key: &'static str, url: &str) -> Result<PgConnectOptions, StoreError> {
    // The URL holds a password: no error may repeat it.
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if !is_postgres {
        let fault = "is not a PostgreSQL URL: it begins with neither postgres:// nor postgresql://";
        return Err(StoreError::Config { key, fault: fault.to_owned() });
    }
    let options: PgConnectOptions = url.parse().map_err(|_| StoreError::Config {
        key,
        fault: "is not a URL such as postgres://role:password@host:5432/database".to_owned(),
    })?;
    Ok(options.application_name("lizards"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(writer_url: &str, reader_url: &str) -> String {
        let config = StoreConfig {
            writer_url: writer_url.into(),
            reader_url: reader_url.into(),
            ..StoreConfig::default()
        };
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_embedded() {
        assert!(matches!(StoreConfig::default().backend(), Ok(Backend::Sqlite)));
    }

    #[test]
    fn one_url_alone_is_refused() {
        assert!(fault("postgres://w@h/d", "").starts_with("provide.store.reader_url: is empty"));
        assert!(fault("", "postgres://r@h/d").starts_with("provide.store.writer_url: is empty"));
        let none = StoreConfig { max_connections: 0, ..StoreConfig::default() };
        assert!(none.validate().unwrap_err().to_string().contains("max_connections"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn urls_are_checked_and_never_repeated() {
        let mysql = fault("mysql://w:secret@h/d", "postgres://r@h/d");
        assert!(mysql.starts_with("provide.store.writer_url: is not a PostgreSQL URL"), "{mysql}");
        let broken = fault("postgres://w@h/d", "postgres://r:secret@h:port/d");
        assert!(broken.starts_with("provide.store.reader_url: is not a URL"), "{broken}");
        assert!(!mysql.contains("secret") && !broken.contains("secret"));
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn without_postgres_it_says_so() {
        assert!(fault("postgres://w@h/d", "postgres://r@h/d").contains("no PostgreSQL"));
    }
}
