//! The servers start, answer, do not disturb each other, and end.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ::mongodb::{
    Client,
    bson::{Document, doc},
};
use lapin::{
    BasicProperties, Connection as Amqp, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use sqlx::{Connection, PgConnection};

use super::{Browser, NatsServer, guard, guard::Guard, mongodb, postgres, rabbitmq};

#[tokio::test]
async fn nats_servers_are_strangers_to_each_other_and_keep_their_store_over_a_crash() {
    let (mut one, other) = tokio::join!(NatsServer::start(), NatsServer::start());
    let client = async_nats::connect(one.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let bucket = |name: &str| async_nats::jetstream::kv::Config {
        bucket: name.to_owned(),
        ..Default::default()
    };
    let store = jetstream.create_key_value(bucket("things")).await.unwrap();
    store.put("a", "1".into()).await.unwrap();

    let elsewhere = async_nats::connect(other.url()).await.unwrap();
    let elsewhere = async_nats::jetstream::new(elsewhere);
    assert!(elsewhere.get_key_value("things").await.is_err());

    one.kill().await;
    assert!(async_nats::connect(one.url()).await.is_err());
    one.restart().await;
    let again = async_nats::jetstream::new(async_nats::connect(one.url()).await.unwrap());
    let store = again.get_key_value("things").await.unwrap();
    assert_eq!(store.get("a").await.unwrap().unwrap(), "1");

    super::install_crypto();
    let health = reqwest::get(format!("{}/healthz", one.monitor_url())).await.unwrap();
    assert!(health.status().is_success());
}

#[tokio::test]
async fn the_writer_writes_and_the_reader_can_only_read() {
    let (one, other) = tokio::join!(postgres(), postgres());
    let mut writer = PgConnection::connect(&one.writer_url).await.unwrap();
    let mut reader = PgConnection::connect(&one.reader_url).await.unwrap();
    let create = "CREATE TABLE ticks (id int PRIMARY KEY)";
    sqlx::query(create).execute(&mut writer).await.unwrap();
    sqlx::query("INSERT INTO ticks VALUES (1)").execute(&mut writer).await.unwrap();

    let read: i32 =
        sqlx::query_scalar("SELECT id FROM ticks").fetch_one(&mut reader).await.unwrap();
    assert_eq!(read, 1);
    for forbidden in [
        "INSERT INTO ticks VALUES (2)",
        "UPDATE ticks SET id = 2",
        "DELETE FROM ticks",
        "TRUNCATE ticks",
        "DROP TABLE ticks",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "SET ROLE lizards_writer",
    ] {
        let fault = sqlx::query(forbidden).execute(&mut reader).await.expect_err(forbidden);
        let code = fault.as_database_error().and_then(|fault| fault.code()).unwrap_or_default();
        assert_eq!(code, "42501", "{forbidden}: {fault}"); // insufficient_privilege
    }

    let mut stranger = PgConnection::connect(&other.admin_url).await.unwrap();
    assert!(sqlx::query("SELECT * FROM ticks").execute(&mut stranger).await.is_err());
}

#[tokio::test]
async fn mongo_databases_are_strangers_to_each_other() {
    let (one, other) = tokio::join!(mongodb(), mongodb());
    assert_eq!(one.is_stand_in(), std::env::var_os("LIZARDS_TEST_MONGODB_URL").is_none());
    let client = Client::with_uri_str(&one.url).await.unwrap();
    let things = client.database(&one.database).collection::<Document>("things");
    things.insert_one(doc! { "_id": "a", "n": 1 }).await.unwrap();
    assert!(things.insert_one(doc! { "_id": "a", "n": 2 }).await.is_err());
    let found = things.find_one(doc! { "_id": "a" }).await.unwrap().unwrap();
    assert_eq!(found.get_i32("n").unwrap(), 1);
    let elsewhere = client.database(&other.database).collection::<Document>("things");
    assert_eq!(elsewhere.find_one(doc! { "_id": "a" }).await.unwrap(), None);
    client.database(&one.database).drop().await.unwrap();
}

#[tokio::test]
async fn virtual_hosts_are_strangers_to_each_other() {
    let (one, other) = tokio::join!(rabbitmq(), rabbitmq());
    let connect = async |url: &str| Amqp::connect(url, ConnectionProperties::default()).await;
    let connections = [connect(&one.url).await.unwrap(), connect(&other.url).await.unwrap()];
    let mut received = Vec::new();
    for (number, connection) in connections.iter().enumerate() {
        let channel = connection.create_channel().await.unwrap();
        let queue = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare("q".into(), queue, FieldTable::default()).await.unwrap();
        let text = format!("to {number}");
        let publish = BasicPublishOptions::default();
        channel
            .basic_publish(
                "".into(),
                "q".into(),
                publish,
                text.as_bytes(),
                BasicProperties::default(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let got = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap();
            if let Some(got) = got {
                received.push(String::from_utf8(got.delivery.data.to_vec()).unwrap());
                break;
            }
        }
    }
    assert_eq!(received, ["to 0", "to 1"]);
}

#[tokio::test]
async fn a_browser_runs_a_page() {
    let (mut browser, mut other) = tokio::join!(Browser::start(), Browser::start());
    let html = "data:text/html,<title>Lizard</title><p id=p>before</p>\
                <script>setTimeout(() => { p.textContent = 'after'; lizard() }, 50)</script>";
    let mut page = browser.open(html).await;
    assert_eq!(page.evaluate("document.title").await, "Lizard");
    page.until("p.textContent == 'after'").await;
    assert_eq!(page.evaluate("Promise.resolve({n: 1 + 1})").await["n"], 2);
    assert!(page.faults()[0].contains("lizard is not defined"), "{:?}", page.faults());

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.png");
    page.screenshot(&file).await;
    assert!(std::fs::read(file).unwrap().starts_with(b"\x89PNG"));

    let mut elsewhere = other.open("data:text/html,<title>Other</title>").await;
    assert_eq!(elsewhere.evaluate("document.title").await, "Other");
    assert!(elsewhere.faults().is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let mut server = Command::new("sh");
    server.args(["-c", "echo the disk is full; exit 3"]);
    let guard = Guard::start("a server", guard::directory("failing"), "KILL", &server);
    let waiting = tokio::spawn(async move {
        guard.until(Duration::from_secs(5), async || None::<()>).await;
    });
    let panic = waiting.await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("a server ended at once") && text.contains("the disk is full"), "{text}");
}

/// Not a test: the process that the next one kills.
#[tokio::test]
#[ignore = "the owner of a server in `a_server_ends_with_its_owner`"]
async fn owner() {
    let mut server = Command::new("sh");
    // It does not listen to TERM, and has a child of its own.
    server.args(["-c", "trap '' TERM; echo $$ > ready; sleep 300"]);
    let guard = Guard::start("a server", guard::directory("owned"), "TERM", &server);
    println!("\nguard {} {}", guard.id(), guard.directory().display());
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_server_ends_with_its_owner() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::tests::owner", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("guard ")).unwrap();
    let mut words = line.split(' ').skip(1);
    let (group, directory) = (words.next().unwrap(), PathBuf::from(words.next().unwrap()));
    eventually("the server runs", || directory.join("ready").exists()).await;
    assert!(group_lives(group));

    owner.kill().unwrap(); // SIGKILL: the owner cannot do anything any more
    owner.wait().unwrap();
    eventually("the server and its guard are gone", || !group_lives(group)).await;
    assert!(!Path::new(&directory).exists());
}

fn group_lives(group: &str) -> bool {
    let kill = format!("kill -s 0 -- -{group}");
    Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap().success()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
