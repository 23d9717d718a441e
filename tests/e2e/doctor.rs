//! `lizards doctor` and `lizards config`.

use std::process::Output;

use futures_util::TryStreamExt;

use crate::{
    eventually::eventually,
    lizards::Installation,
    servers::{NatsServer, postgres},
};

fn run(installation: &Installation, args: &[&str]) -> (bool, String) {
    let Output { status, stdout, .. } =
        installation.command(args).output().expect("the program is built");
    (status.success(), String::from_utf8_lossy(&stdout).into_owned())
}

#[test]
fn a_fresh_machine_is_well() {
    let installation = Installation::private();
    let (well, said) = run(&installation, &["doctor"]);
    assert!(well && said.contains("Nothing is wrong"), "{said}");
    assert!(said.contains("clocks agree"), "{said}");
    let left: Vec<_> = std::fs::read_dir(installation.folder()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?} was left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_left_as_it_is() {
    let nats = NatsServer::start().await;
    let client = async_nats::connect(nats.url()).await.expect("it runs");
    let jetstream = async_nats::jetstream::new(client);
    let kept = async_nats::jetstream::stream::Config {
        name: "TICKS_RAW".into(),
        subjects: vec!["ticks.raw.>".into()],
        max_age: std::time::Duration::from_secs(365 * 24 * 3_600),
        ..Default::default()
    };
    jetstream.create_stream(kept.clone()).await.expect("JetStream is on");
    let (well, said) =
        tokio::task::block_in_place(|| run(&Installation::at(&nats.url()), &["doctor"]));
    assert!(well, "{said}");
    let names: Vec<String> = jetstream.stream_names().try_collect().await.expect("it answers");
    assert_eq!(names, ["TICKS_RAW"]);
    let stream = jetstream.get_stream("TICKS_RAW").await.expect("it is there");
    assert_eq!(stream.cached_info().config.max_age, kept.max_age);
}

#[tokio::test(flavor = "multi_thread")]
async fn lizards_that_runs_already_is_no_fault() {
    let mut installation = Installation::private();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    installation.set("gateway.listen", free.local_addr().expect("it is bound"));
    drop(free);
    let up = installation.start("up", &["up"]);
    eventually(std::time::Duration::from_secs(60), "it is up", async || {
        up.log().contains("Lizards is up").then_some(())
    })
    .await;
    let (well, said) = tokio::task::block_in_place(|| run(&installation, &["doctor"]));
    assert!(well && said.contains("lizards runs already"), "{said}");
}

#[test]
fn a_taken_port_is_found() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut installation = Installation::private();
    installation.set("gateway.listen", taken.local_addr().expect("it is bound"));
    let (well, said) = run(&installation, &["doctor"]);
    assert!(!well && said.contains("FAULT  gateway.listen"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_without_jetstream_is_found() {
    let nats = NatsServer::without_jetstream().await;
    let (well, said) =
        tokio::task::block_in_place(|| run(&Installation::at(&nats.url()), &["doctor"]));
    assert!(!well && said.contains("without JetStream"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_do_not_fit_are_found() {
    let nats = NatsServer::with_storage_limit("64MB").await;
    let (well, said) =
        tokio::task::block_in_place(|| run(&Installation::at(&nats.url()), &["doctor"]));
    assert!(!well && said.contains("limits are streams.*"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_can_write_is_found() {
    let database = postgres().await;
    let nats = NatsServer::start().await;
    let mut installation = Installation::at(&nats.url());
    installation.set("provide.store.writer_url", &database.writer_url);
    installation.set("provide.store.reader_url", &database.reader_url);
    let (well, said) = tokio::task::block_in_place(|| run(&installation, &["doctor"]));
    assert!(well && said.contains("cannot write"), "{said}");
    installation.set("provide.store.reader_url", &database.writer_url);
    let (well, said) = tokio::task::block_in_place(|| run(&installation, &["doctor"]));
    assert!(!well && said.contains("this database role can write"), "{said}");
}

#[test]
fn the_configuration_is_shown_with_its_origins_and_without_secrets() {
    let mut installation = Installation::private();
    installation.set("nats.password", "hush-hush");
    let (well, said) = run(&installation, &["config", "--set", "gateway.burst=7"]);
    assert!(well);
    assert!(said.contains("[LIZARDS_GATEWAY_LISTEN]"), "{said}");
    assert!(said.contains("[--set]\nburst = 7"), "{said}");
    assert!(!said.contains("hush-hush") && said.contains("(hidden)"), "{said}");
}
