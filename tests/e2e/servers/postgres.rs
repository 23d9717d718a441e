//! PostgreSQL, one server for the test process and a database for each test.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use super::{find, guard, guard::Guard, port};

/// A fresh database with the roles and privileges of a deployment.
pub(crate) struct Database {
    /// For the superuser.
    pub(crate) admin_url: String,
    /// For the role that owns the database and writes.
    pub(crate) writer_url: String,
    /// For the role that can only read.
    pub(crate) reader_url: String,
    server: &'static Server,
}

struct Server {
    guard: Guard,
    port: u16,
}

/// What a deployment's database is set up with.
const ROLES: &str = include_str!("../../../deploy/postgres/roles.sql");
const PRIVILEGES: &str = include_str!("../../../deploy/postgres/privileges.sql");

/// `$1` holds the programs, `$2` the data, `$3` is the port. Nothing of it needs to survive.
const RUN: &str = r#"
"$1/initdb" --pgdata="$2" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync &&
exec "$1/postgres" -D "$2" -p "$3" -h 127.0.0.1 -F -c unix_socket_directories= -c max_connections=300
"#;

/// PostgreSQL refuses to run as root: `nobody` runs it there.
const NOBODY: u32 = 65_534;

/// A fresh database on the server of this test process.
pub(crate) async fn postgres() -> Database {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(Server::start).await;
    let name = format!("lizards_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut admin = server.connect("postgres").await.expect("the server has just answered");
    // The name is made here, of letters and digits.
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut admin)
        .await
        .expect("the database is new");
    let mut admin = server.connect(&name).await.expect("the database has just been created");
    sqlx::raw_sql(PRIVILEGES).execute(&mut admin).await.expect("the privileges are right SQL");
    Database {
        admin_url: server.url("postgres", &name),
        writer_url: server.url("lizards_writer", &name),
        reader_url: server.url("lizards_reader", &name),
        server,
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.guard.explain_failure();
    }
}

impl Server {
    async fn start() -> Self {
        let initdb = ["/usr/lib/postgresql/18/bin", "/opt/homebrew/opt/postgresql@18/bin"];
        let programs = find::program(
            "LIZARDS_TEST_POSTGRES_BIN",
            &[".tools/postgres/bin", initdb[0], initdb[1]],
        );
        let programs = fs::canonicalize(programs).expect("it has just been found");
        let directory = guard::directory("postgres");
        let data = directory.path().join("data");
        fs::create_dir(&data).expect("the directory is ours");

        let programs = reachable(programs, directory.path());
        let port = port::free();
        let mut server = unprivileged(directory.path(), &data);
        server.args(["sh", "-c", RUN, "postgres"]).arg(programs).arg(data).arg(port.to_string());
        let server = Self { guard: Guard::start("PostgreSQL", directory, "INT", &server), port };
        let mut admin = server
            .guard
            .until(Duration::from_secs(60), async || server.connect("postgres").await.ok())
            .await;
        sqlx::raw_sql(ROLES).execute(&mut admin).await.expect("the roles are new");
        server
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.url("postgres", database)).await
    }

    fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

/// What runs the command that is added to it, as somebody else where we are root.
fn unprivileged(directory: &Path, data: &Path) -> Command {
    let owner = fs::metadata(data).expect("it has just been created").uid();
    if owner != 0 {
        return Command::new("env");
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
    chown(data, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    command.arg("--clear-groups");
    command.arg("--");
    command
}

/// The programs, copied where the repository lies in a folder that only its owner may enter (such
/// as /root): the user that PostgreSQL runs as could not reach them there.
fn reachable(programs: PathBuf, directory: &Path) -> PathBuf {
    let is_closed = |folder: &Path| fs::metadata(folder).is_ok_and(|it| it.mode() & 0o001 == 0);
    let we_are_root = fs::metadata(directory).is_ok_and(|it| it.uid() == 0);
    if !we_are_root || !programs.ancestors().any(is_closed) {
        return programs;
    }
    // The package's libraries lie beside its programs, found by relative paths.
    let package = programs.ancestors().find(|it| it.ends_with("site-packages"));
    let package = package.or(programs.parent()).expect("a folder of programs has a parent");
    let copy = directory.join("programs");
    let copied = Command::new("cp").arg("-R").arg(package).arg(&copy).status();
    assert!(copied.is_ok_and(|it| it.success()), "{} cannot be copied", package.display());
    copy.join(programs.strip_prefix(package).expect("it is an ancestor"))
}
