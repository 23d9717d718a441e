//! What goes wrong at the start is one line that says what and where, and a failing exit code.

use std::{net::TcpListener, time::Duration};

use crate::{eventually::eventually, lizards::Installation, servers::NatsServer};

/// Runs to the end, which must come by itself, and gives what was printed to standard error that
/// is not a log line.
fn complaint(installation: &Installation, args: &[&str]) -> String {
    let output = installation.command(args).output().expect("the program is built");
    assert!(!output.status.success(), "{args:?} succeeded");
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("lizards: ")).collect();
    assert_eq!(lines.len(), 1, "one line, not:\n{errors}");
    lines[0].to_owned()
}

#[test]
fn an_unreadable_replay_file() {
    let line = complaint(&Installation::private(), &["up", "--replay", "no/such/file.csv"]);
    assert!(line.contains("no/such/file.csv"), "{line}");
}

#[test]
fn a_replay_file_that_is_not_one() {
    let installation = Installation::private();
    let file = installation.folder().join("notes.csv");
    std::fs::write(&file, "dear diary\n1\n").expect("the folder is ours");
    let line = complaint(&installation, &["up", "--replay", &file.display().to_string()]);
    assert!(line.contains("notes.csv") && line.contains("symbol"), "{line}");
}

#[test]
fn an_unknown_key() {
    let mut installation = Installation::private();
    installation.set("gateway.lissen", "127.0.0.1:0");
    let line = complaint(&installation, &["up"]);
    assert!(line.contains("LIZARDS_GATEWAY_LISSEN"), "{line}");
}

#[test]
fn a_bad_value() {
    let line = complaint(&Installation::private(), &["up", "--set", "ingest.sources=telepathy"]);
    assert!(line.contains("ingest.sources") && line.contains("telepathy"), "{line}");
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let line =
        complaint(&Installation::private(), &["up", "--set", &format!("gateway.listen={address}")]);
    assert!(line.contains("gateway.listen") && line.contains(&address), "{line}");
}

#[test]
fn the_port_of_nats_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let line = complaint(&Installation::private(), &["up", "--set", &format!("nats.port={port}")]);
    assert!(line.contains(&port.to_string()) && line.contains("--nats-url"), "{line}");
}

#[test]
fn a_folder_that_cannot_be_written() {
    let mut installation = Installation::private();
    let file = installation.folder().join("file");
    std::fs::write(&file, "").expect("the folder is ours");
    installation.set("data_dir", file.join("data").display());
    let line = complaint(&installation, &["up"]);
    assert!(line.contains("data_dir") && line.contains("file/data"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_without_jetstream() {
    let without = NatsServer::without_jetstream().await;
    let installation = Installation::at(&without.url());
    let line = tokio::task::block_in_place(|| complaint(&installation, &["process"]));
    assert!(line.contains("without JetStream") && line.contains(&without.url()), "{line}");
}

#[test]
fn a_nats_that_is_not_there() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", free.local_addr().expect("it is bound"));
    drop(free);
    let line = complaint(&Installation::at(&url), &["gateway"]);
    assert!(line.contains(&url), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_in_use() {
    let installation = Installation::private();
    let first = installation.start("up", &["up"]);
    eventually(Duration::from_secs(60), "the first is up", async || {
        first.log().contains("Lizards is up").then_some(())
    })
    .await;
    let line = tokio::task::block_in_place(|| complaint(&installation, &["up"]));
    assert!(line.contains("another lizards") && line.contains("--data-dir"), "{line}");
}

/// A pipe whose reader has gone is no fault.
#[test]
fn an_output_that_nobody_reads() {
    let installation = Installation::private();
    for (args, stderr) in [(&["config"][..], "2>/dev/null"), (&["up"][..], "2>&1")] {
        let program = installation.command(args);
        let script = format!(
            r#"{{ timeout -s INT 4 "$0" {} {stderr}; echo $? >&3; }} 3>"$1" | head -c 1 >/dev/null"#,
            args[0]
        );
        let status = installation.folder().join("status");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).arg(program.get_program()).arg(&status);
        shell.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        assert!(shell.status().expect("there is a shell").success());
        let status = std::fs::read_to_string(&status).expect("it was written");
        // 124: it ran until `timeout` interrupted it.
        let wanted = if args[0] == "up" { "124" } else { "0" };
        assert_eq!(status.trim(), wanted, "{args:?}");
    }
}

/// Who is asked to stop while waiting for NATS has nothing to complain about.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_nats_answers() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", free.local_addr().expect("it is bound"));
    drop(free);
    let mut process = Installation::at(&url)
        .command(&["process"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program is built");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = std::process::Command::new("kill").arg(process.id().to_string()).status();
    assert!(killed.expect("there is a `kill`").success());
    let since = std::time::Instant::now();
    let status = tokio::task::block_in_place(|| process.wait().expect("it ends"));
    assert!(status.success() && since.elapsed() < Duration::from_secs(2), "{status}");
}

/// A disk of 8 MiB: streams of gigabytes do not fit, and the server says so before anything runs.
#[test]
fn a_full_disk() {
    let installation = Installation::private();
    let folder = installation.folder().display();
    let program = env!("CARGO_BIN_EXE_lizards");
    let script = format!(
        "mount -t tmpfs -o size=8m tmpfs {folder} && cd {} && head -c 8m /dev/zero >{folder}/fill; {program} up",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    command
        .envs(installation.command(&[]).get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = command.output().expect("util-linux is there");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = errors.lines().find(|line| line.starts_with("lizards: ")).unwrap_or_default();
    assert!(line.contains("No space left") || line.contains("no space left"), "{errors}");
}
