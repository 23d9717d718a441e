//! The store of normalised ticks against real databases: the same conformance on each, and the
//! role that can only read.

#[path = "../../provide/src/store/conformance.rs"]
mod conformance;

use std::path::Path;

use jiff::Timestamp;
use provide::store::{
    Position, Span, StoreConfig, StoreError, StoredTick, TickReader, TickWriter, open_reader,
    open_writer, reader_can_write,
};
use schemas::{Decimal, Source, Symbol, Tick, TickKind, calendar::Calendars};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::servers::{postgres, postgres::Database};

fn config(database: &Database) -> StoreConfig {
    StoreConfig {
        writer_url: database.writer_url.clone(),
        reader_url: database.reader_url.clone(),
        ..StoreConfig::default()
    }
}

/// PostgreSQL needs no data directory: this one cannot be made.
fn nowhere() -> &'static Path {
    Path::new("/dev/null/nowhere")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the role may connect")
}

async fn execute(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

fn tick(seq: u64, ts: &str) -> StoredTick {
    let ts: Timestamp = ts.parse().expect("a time");
    let tick = Tick {
        id: format!("test:{seq}"),
        symbol: Symbol::new("AAPL").expect("a symbol"),
        price: Decimal::parse("218.3100").expect("a number"),
        size: Some(Decimal::parse("0.00").expect("a number")),
        currency: "USD".into(),
        exchange: None,
        kind: TickKind::Trade,
        ts,
        received_at: ts,
        source: Source::new("test").expect("a source"),
        raw_seq: seq,
        flags: Vec::new(),
    };
    StoredTick::new(tick, seq).expect("it can be stored")
}

#[tokio::test]
async fn sqlite_keeps_what_every_store_has_to_keep() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    conformance::all(&StoreConfig::default(), directory.path()).await;
}

#[tokio::test]
async fn postgresql_keeps_what_every_store_has_to_keep() {
    let database = postgres().await;
    conformance::all(&config(&database), nowhere()).await;
}

#[tokio::test]
async fn the_readers_role_can_only_select() {
    let database = postgres().await;
    let config = config(&database);
    let mut writer = open_writer(&config, nowhere()).await.expect("the writer owns the database");
    writer.write(&[tick(1, "2024-09-14T12:34:56Z")]).await.expect("the writer can write");
    let mut reader = connect(&database.reader_url).await;
    execute(&mut reader, "SELECT * FROM ticks").await.expect("the reader can read");
    for forbidden in [
        "INSERT INTO ticks (id) VALUES ('mine')",
        "UPDATE ticks SET price = 1",
        "DELETE FROM ticks",
        "TRUNCATE ticks",
        "DROP TABLE ticks",
        "ALTER TABLE ticks ADD COLUMN mine INT",
        "CREATE TABLE mine (a INT)",
        "CREATE SCHEMA mine",
        "CREATE INDEX mine ON ticks (price)",
        "SET ROLE lizards_writer",
        "DELETE FROM _sqlx_migrations",
        "SELECT * FROM ticks FOR UPDATE",
    ] {
        let refused = execute(&mut reader, forbidden).await.expect_err(forbidden);
        let fault = refused.to_string();
        assert!(
            ["permission denied", "must be owner"].iter().any(|why| fault.contains(why)),
            "{forbidden}: {fault}"
        );
    }
    assert!(!reader_can_write(&config).await.expect("the reader can ask"));
}

#[tokio::test]
async fn a_reader_that_could_write_is_found_out() {
    let database = postgres().await;
    let config = config(&database);
    open_writer(&config, nowhere()).await.expect("the writer owns the database");
    let mut admin = connect(&database.admin_url).await;
    for (grant, revoke) in [
        ("GRANT INSERT ON ticks TO lizards_reader", "REVOKE INSERT ON ticks FROM lizards_reader"),
        ("GRANT DELETE ON ticks TO PUBLIC", "REVOKE DELETE ON ticks FROM PUBLIC"),
        (
            "GRANT UPDATE (price) ON ticks TO lizards_reader",
            "REVOKE UPDATE (price) ON ticks FROM lizards_reader",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO lizards_reader",
            "REVOKE CREATE ON SCHEMA public FROM lizards_reader",
        ),
    ] {
        execute(&mut admin, grant).await.expect(grant);
        assert!(reader_can_write(&config).await.expect("the reader can ask"), "{grant}");
        execute(&mut admin, revoke).await.expect(revoke);
        assert!(!reader_can_write(&config).await.expect("the reader can ask"), "{revoke}");
    }
    for url in [&database.admin_url, &database.writer_url] {
        let powerful = StoreConfig { reader_url: url.clone(), ..config.clone() };
        assert!(reader_can_write(&powerful).await.expect("the role can ask"), "{url}");
    }
    // Privileges that were given by hand go when the writer opens again.
    execute(&mut admin, "GRANT ALL ON ticks TO lizards_reader").await.expect("the admin may");
    open_writer(&config, nowhere()).await.expect("the writer opens again");
    assert!(!reader_can_write(&config).await.expect("the reader can ask"));
}

#[tokio::test]
async fn people_who_write_sql_see_numbers_and_times() {
    let database = postgres().await;
    let mut writer = open_writer(&config(&database), nowhere()).await.expect("it opens");
    let ticks = [
        tick(1, "2024-09-14T12:34:56.123456789Z"),
        tick(2, "1999-12-31T23:59:59.999999Z"),
        tick(3, "2260-01-01T00:00:00.000001Z"),
    ];
    writer.write(&ticks).await.expect("it is written");
    let mut reader = connect(&database.reader_url).await;
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT price::text || ' ' || size::text || ' ' || pg_typeof(price)::text,
                to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')
         FROM ticks ORDER BY seq",
    )
    .fetch_all(&mut reader)
    .await
    .expect("the reader can read");
    let times =
        ["2024-09-14 12:34:56.123456", "1999-12-31 23:59:59.999999", "2260-01-01 00:00:00.000001"];
    for (row, time) in rows.iter().zip(times) {
        assert_eq!(*row, ("218.3100 0.00 numeric".to_owned(), time.to_owned()));
    }
    assert_eq!(rows.len(), times.len());
}

#[tokio::test]
async fn the_writer_carries_on_after_its_connection_was_cut() {
    let database = postgres().await;
    let mut writer = open_writer(&config(&database), nowhere()).await.expect("it opens");
    writer.write(&[tick(1, "2024-09-14T12:34:56Z")]).await.expect("it is written");
    let mut admin = connect(&database.admin_url).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE usename = 'lizards_writer' AND datname = current_database()";
    execute(&mut admin, cut).await.expect("the admin may");
    // The attempt that finds it cut fails, the next one connects anew.
    let both = [tick(1, "2024-09-14T12:34:56Z"), tick(2, "2024-09-14T12:34:57Z")];
    assert!(writer.write(&both).await.is_err());
    assert_eq!(writer.write(&both).await.expect("it connects anew"), 1);
}

#[tokio::test]
async fn a_database_that_is_away_is_an_error_without_its_password() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let away = StoreConfig {
        writer_url: format!("postgres://writer:hush-hush@127.0.0.1:{port}/lizards"),
        reader_url: format!("postgres://reader:hush-hush@127.0.0.1:{port}/lizards"),
        ..StoreConfig::default()
    };
    let fault = open_writer(&away, nowhere()).await.err().expect("nobody listens");
    assert!(matches!(fault, StoreError::Unavailable { action: "opened", .. }), "{fault}");
    assert!(fault.to_string().contains("refused"), "{fault}");
    assert!(!format!("{fault} {fault:?}").contains("hush-hush"), "{fault:?}");
    let reader = open_reader(&away, nowhere(), Calendars::default())
        .await
        .expect("it connects when it is asked");
    let fault = reader.symbols("", 1).await.expect_err("nobody listens");
    assert!(matches!(fault, StoreError::Unavailable { action: "read", .. }), "{fault}");
}
