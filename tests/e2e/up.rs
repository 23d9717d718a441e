//! `lizards up`: the whole pipeline in one process, out of the box.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use schemas::{ClientMessage, ServerMessage, Subscribe, http};
use serde_json::Value;

use crate::{
    eventually::eventually,
    lizards::{Installation, Process},
    servers::{Browser, install_crypto},
    subscriber::{next, send},
    trades::Trades,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a running `lizards up` said that something is.
pub(crate) async fn printed(process: &Process, what: &str) -> String {
    eventually(PATIENCE, &format!("{what} is printed"), async || {
        let log = process.log();
        let line = log.lines().find(|line| line.trim_start().starts_with(what))?;
        Some(line.trim_start()[what.len()..].trim().to_owned())
    })
    .await
}

fn subscribe(symbols: &[&str]) -> ClientMessage {
    let symbols = symbols.iter().map(ToString::to_string).collect();
    ClientMessage::Subscribe(Subscribe { symbols, ..Subscribe::default() })
}

fn price_update(message: ServerMessage) -> Option<(String, schemas::Update)> {
    let ServerMessage::PriceUpdate { data, .. } = message else { return None };
    data.into_iter().next()
}

async fn json(url: String) -> Value {
    install_crypto();
    let answer = reqwest::get(&url).await.expect("an answer");
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_the_box_simulated_ticks_flow() {
    let installation = Installation::private();
    let up = installation.start("up", &["up"]);
    let url = printed(&up, "WebSocket").await;
    assert!(up.log().contains("simulated"), "{}", up.log());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("the gateway listens");
    // Word for word what the README shows.
    let text = r#"{"type":"subscribe","symbols":["AAPL"]}"#;
    futures_util::SinkExt::send(&mut socket, text.into()).await.expect("open");
    let mut last = 0;
    for _ in 0..5 {
        let (symbol, update) = next(&mut socket, price_update).await;
        assert_eq!((symbol.as_str(), update.source.as_str()), ("AAPL", "sim"));
        assert!(update.seq > last, "in order");
        last = update.seq;
    }
    // The services API answers for every role.
    let client = async_nats::connect(printed(&up, "NATS").await).await.expect("NATS runs");
    for role in ["ingest", "process", "provide", "gateway"] {
        let subject = format!("$SRV.INFO.lizards-{role}");
        let info = client.request(subject, "".into()).await.expect("an answer");
        let info: Value = serde_json::from_slice(&info.payload).expect("JSON");
        assert_eq!(info["name"], format!("lizards-{role}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_carries_on_with_what_was_stored() {
    let installation = Installation::private();
    let first = installation
        .command(&["up"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is built");
    // It prints where NATS is only once everything listens.
    tokio::time::sleep(Duration::from_secs(6)).await;
    interrupt(&first);
    let output = tokio::task::spawn_blocking(move || first.wait_with_output().expect("it ends"))
        .await
        .expect("no panic");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("private nats-server stopped"), "{}", text(&output));
    assert!(!nats_server_runs_in(&installation), "a nats-server was left behind");

    let second = installation.start("up", &["up"]);
    let page = printed(&second, "page").await;
    let stored = json(format!("{page}ticks/AAPL?limit=1")).await;
    let oldest = stored["ticks"][0]["received_at"].as_str().expect("a tick").to_owned();
    let (mut socket, _) =
        tokio_tungstenite::connect_async(printed(&second, "WebSocket").await).await.expect("open");
    let from_the_first =
        Subscribe { symbols: vec!["AAPL".into()], from_seq: Some(0), ..Subscribe::default() };
    send(&mut socket, &ClientMessage::Subscribe(from_the_first)).await.expect("open");
    let (_, update) = next(&mut socket, price_update).await;
    assert_eq!(update.prev, 0, "the first tick of the first run");
    assert!(update.timestamp <= oldest.parse().expect("a time"));
}

/// What Ctrl-C sends.
fn interrupt(process: &std::process::Child) {
    let killed = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
    assert!(killed.expect("there is a `kill`").success());
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn nats_server_runs_in(installation: &Installation) -> bool {
    let folder = installation.folder().display().to_string();
    let processes = std::fs::read_dir("/proc").expect("a Linux machine");
    processes.flatten().any(|process| {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.contains("nats-server") && command.contains(&folder)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_it_leaves_no_server_behind() {
    let installation = Installation::private();
    let mut up = installation.start("up", &["up"]);
    printed(&up, "page").await;
    assert!(nats_server_runs_in(&installation));
    up.kill().await;
    eventually(PATIENCE, "the nats-server is gone", async || {
        (!nats_server_runs_in(&installation)).then_some(())
    })
    .await;
    up.start_again().await;
    eventually(PATIENCE, "it runs again", async || {
        nats_server_runs_in(&installation).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_interface_answers_as_the_contract_says() {
    let installation = Installation::private();
    let up = installation.start("up", &["up"]);
    let page = printed(&up, "page").await;
    let base = page.trim_end_matches('/').to_owned();
    eventually(PATIENCE, "quotes", async || {
        install_crypto();
        let answer = reqwest::get(format!("{base}/quotes?symbols=AAPL,BRK.B")).await.ok()?;
        let quotes: http::Quotes = answer.json().await.ok()?;
        (quotes.quotes.len() == 2).then_some(())
    })
    .await;
    let sources: http::Sources =
        serde_json::from_value(json(format!("{base}/sources")).await).expect("its shape");
    assert_eq!(sources.sources.len(), 1);
    let sim: http::SourceStatus =
        serde_json::from_value(json(format!("{base}/sources/sim")).await).expect("its shape");
    assert_eq!(sim.state, http::SourceState::Running);
    let quotes: http::Quotes =
        serde_json::from_value(json(format!("{base}/quotes?symbols=AAPL,NOPE")).await)
            .expect("its shape");
    assert_eq!((quotes.quotes.len(), quotes.unknown), (1, vec!["NOPE".to_owned()]));
    let symbols: http::Symbols =
        serde_json::from_value(json(format!("{base}/symbols?query=BRK")).await).expect("its shape");
    assert_eq!(symbols.symbols.len(), 1);
    let candles = json(format!("{base}/candles/AAPL?interval=1s")).await;
    assert!(candles["candles"][0]["open"].is_string(), "{candles}");
    let services: http::Services =
        serde_json::from_value(json(format!("{base}/services")).await).expect("its shape");
    let names: Vec<_> = services.services.iter().map(|entry| entry.service_name.as_str()).collect();
    assert_eq!(names, ["lizards-gateway", "lizards-ingest", "lizards-process", "lizards-provide"]);
    let provide = json(format!("{base}/services/lizards-provide")).await;
    assert_eq!(provide["instance_count"], 1);
    assert!(provide["instances"][0]["port_number"].is_u64());

    let client = reqwest::Client::new();
    let session = client.post(format!("{base}/session")).send().await.expect("an answer");
    let session: http::Session = session.json().await.expect("its shape");
    assert!(session.websocket_url.starts_with("ws://"), "{session:?}");
    let (mut socket, _) =
        tokio_tungstenite::connect_async(&session.websocket_url).await.expect("it can be reached");
    send(&mut socket, &subscribe(&["AAPL"])).await.expect("open");
    next(&mut socket, price_update).await;

    let problem =
        client.get(format!("{base}/ticks/AAPL?limit=many")).send().await.expect("an answer");
    assert_eq!(problem.status(), 400);
    assert_eq!(problem.headers()["content-type"], "application/problem+json");
    assert!(problem.text().await.expect("text").contains("limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_shows_its_metrics_and_its_health() {
    let installation = Installation::private();
    let up = installation.start("up", &["up"]);
    let page = printed(&up, "page").await;
    let gateway = page.trim_end_matches('/').to_owned();
    let mut roles = vec![("gateway", gateway)];
    for role in ["ingest", "process", "provide"] {
        roles.push((role, printed(&up, role).await));
    }
    install_crypto();
    for (role, base) in &roles {
        let live = reqwest::get(format!("{base}/health/live")).await.expect("an answer");
        assert!(live.status().is_success(), "{role}");
        eventually(PATIENCE, &format!("{role} is ready"), async || {
            let ready = reqwest::get(format!("{base}/health/ready")).await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        eventually(PATIENCE, &format!("{role} counts"), async || {
            let text = reqwest::get(format!("{base}/metrics")).await.ok()?.text().await.ok()?;
            text.contains(&format!("lizards_{role}_")).then_some(())
        })
        .await;
    }
    // in = out + rejected, as a metric.
    eventually(PATIENCE, "events = ticks + rejections", async || {
        let text = reqwest::get(format!("{}/metrics", roles[2].1)).await.ok()?.text().await.ok()?;
        let value = |name: &str| {
            text.lines()
                .filter(|line| line.starts_with(name))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum::<u64>()
        };
        let (events, ticks) =
            (value("lizards_process_events_total"), value("lizards_process_ticks_total"));
        (events > 20 && events == ticks + value("lizards_process_rejections_total")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_live_prices_in_a_real_browser() {
    let installation = Installation::private();
    let up = installation.start("up", &["up"]);
    let url = printed(&up, "page").await;
    let mut browser = Browser::start().await;
    let mut page = browser.open(&url).await;
    let price = r#"document.querySelector('tr[data-symbol="AAPL"] [data-field="price"]')?.textContent ?? null"#;
    let shown = eventually(PATIENCE, "the page shows AAPL", async || {
        page.evaluate(price).await.as_str().map(str::to_owned)
    })
    .await;
    assert!(shown.trim().parse::<f64>().is_ok(), "{shown:?} is a price");
    eventually(PATIENCE, "the price on the page moves", async || {
        (page.evaluate(price).await.as_str()? != shown).then_some(())
    })
    .await;
    let simulated =
        page.evaluate("document.body.innerText.toLowerCase().includes('simulated')").await;
    assert_eq!(simulated, Value::Bool(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_trades_is_played_once_however_often_it_is_started() {
    let installation = Installation::private();
    let trades = Trades::from_the_open(500);
    let file = trades.write(installation.folder()).display().to_string();
    for start in ["first", "second"] {
        let up = installation.start("up", &["up", "--replay", &file, "--speed", "max"]);
        let base = printed(&up, "page").await.trim_end_matches('/').to_owned();
        install_crypto();
        eventually(PATIENCE, &format!("the {start} start is at its end"), async || {
            let answer = reqwest::get(format!("{base}/sources/file")).await.ok()?;
            let file: http::SourceStatus = answer.json().await.ok()?;
            (file.state == http::SourceState::Finished).then_some(())
        })
        .await;
        eventually(PATIENCE, "all is stored", async || {
            let page = reqwest::get(format!("{base}/ticks/SPY?limit=1000")).await.ok()?;
            let page: http::TickPage = page.json().await.ok()?;
            (page.ticks.len() == trades.of("SPY").len()).then_some(())
        })
        .await;
        if start == "second" {
            assert!(up.log().contains("already played"), "{}", up.log());
        }
    }
}
