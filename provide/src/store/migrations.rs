//! The schema of the stores, one step after another. A step that has been released never changes.

use sqlx::{
    SqlSafeStr,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

pub(super) fn sqlite() -> Migrator {
    migrator(&[
        (1, "ticks", include_str!("../../migrations/sqlite/0001_ticks.sql")),
        (2, "flags", include_str!("../../migrations/sqlite/0002_flags.sql")),
    ])
}

#[cfg(feature = "postgres")]
pub(super) fn postgres() -> Migrator {
    migrator(&[
        (1, "ticks", include_str!("../../migrations/postgres/0001_ticks.sql")),
        (2, "flags", include_str!("../../migrations/postgres/0002_flags.sql")),
    ])
}

/// Brings a database up to date.
///
/// Not by [`Migrator::run`]: its future is not `Send` for every lifetime, so no task could open a
/// store.
pub(super) async fn run<C: Migrate>(
    migrator: &Migrator,
    connection: &mut C,
) -> Result<(), MigrateError> {
    migrator.run_direct(None, connection, false).await
}

fn migrator(steps: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = steps
        .iter()
        .map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}
