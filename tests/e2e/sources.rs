//! Sources that are added, changed and removed while everything runs.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use schemas::{
    Symbol,
    http::{self, SourceState, SourceStatus},
};

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, install_crypto},
    subscriber::Subscriber,
};

const PATIENCE: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "correct-horse-battery";

/// All roles, with two instances of ingest.
struct House {
    _nats: NatsServer,
    registry: Arc<Registry>,
    installation: Installation,
    gateway: String,
    client: reqwest::Client,
    processes: Vec<Process>,
}

impl House {
    async fn start() -> Self {
        install_crypto();
        let nats = NatsServer::start().await;
        let mut installation = Installation::at(&nats.url());
        installation.set("ingest.admin_key", ADMIN_KEY);
        installation.set("ingest.sim.symbols", "AAPL,MSFT");
        let roles = ["ingest", "ingest", "process", "provide", "gateway"];
        let processes = roles.map(|role| installation.role(role)).into();
        let registry = Arc::new(Registry::at(&nats.url()).await);
        let gateway = format!("http://{}", registry.address("gateway").await);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let house = Self { _nats: nats, registry, installation, gateway, client, processes };
        house.until("sim runs", |sim| sim.state == SourceState::Running).await;
        house
    }

    async fn status(&self, name: &str) -> Option<SourceStatus> {
        let answer = self.client.get(format!("{}/sources/{name}", self.gateway)).send().await;
        answer.ok()?.json().await.ok()
    }

    async fn knows(&self, symbol: &str) -> bool {
        let url = format!("{}/symbols?query={symbol}", self.gateway);
        let answer = self.client.get(url).send().await.unwrap();
        let known: Option<http::Symbols> = answer.json().await.ok();
        known.is_some_and(|known| known.symbols.iter().any(|known| known.as_str() == symbol))
    }

    async fn until(&self, what: &str, is_so: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
        eventually(PATIENCE, what, async || self.status("sim").await.filter(|status| is_so(status)))
            .await
    }

    /// A change over HTTP, as whoever has the key makes it.
    async fn change(&self, method: &str, path: &str, body: &'static str) -> StatusCode {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("{}{path}", self.gateway));
        request.bearer_auth(ADMIN_KEY).body(body).send().await.unwrap().status()
    }

    /// `lizards sources` with these arguments; what it says, and whether it worked.
    fn command(&self, args: &[&str]) -> (String, bool) {
        let args: Vec<_> = [&["sources"], args].concat();
        let output = self.installation.command(&args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.success())
    }
}

fn symbols(status: &SourceStatus) -> Vec<&str> {
    status.symbols.iter().map(Symbol::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn symbols_come_and_go_while_the_source_runs() {
    let mut house = House::start().await;
    let added = house.change("PUT", "/sources/sim/symbols/BRK.B", "").await;
    assert_eq!(added, StatusCode::OK);
    let sim = house.until("sim follows BRK.B", |sim| symbols(sim).contains(&"BRK.B")).await;
    assert_eq!(symbols(&sim), ["AAPL", "BRK.B", "MSFT"]);
    assert_eq!(sim.owners.len(), 1, "one instance fetches it: {sim:?}");
    let known = async || house.knows("BRK.B").await.then_some(());
    eventually(PATIENCE, "clients may subscribe to BRK.B", known).await;
    let subscriber = Subscriber::follow(Arc::clone(&house.registry), &["BRK.B"]);
    let ticks = async || (subscriber.count() > 0).then_some(());
    eventually(PATIENCE, "a subscriber gets ticks of BRK.B", ticks).await;

    // The command line changes the same.
    let (said, worked) = house.command(&["follow", "sim", "SPY"]);
    assert!(worked && said == "sim: fetched: AAPL BRK.B MSFT SPY\n", "{said}");
    house.until("sim follows SPY", |sim| symbols(sim).contains(&"SPY")).await;
    let removed = house.change("DELETE", "/sources/sim/symbols/BRK.B", "").await;
    assert_eq!(removed, StatusCode::NO_CONTENT);
    house.until("sim leaves BRK.B", |sim| !symbols(sim).contains(&"BRK.B")).await;
    let again = house.change("DELETE", "/sources/sim/symbols/BRK.B", "").await;
    assert_eq!(again, StatusCode::NOT_FOUND);

    // What has ticks is still known, and a restart changes nothing.
    for process in &mut house.processes[..2] {
        process.kill().await;
        process.start_again().await;
    }
    let sim = house.until("sim runs again", |sim| sim.state == SourceState::Running).await;
    assert_eq!(symbols(&sim), ["AAPL", "MSFT", "SPY"]);
    assert!(house.knows("BRK.B").await);
    let quote = house.client.get(format!("{}/quotes/BRK.B", house.gateway)).send().await.unwrap();
    assert_eq!(quote.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_come_and_go_and_a_bad_setting_changes_nothing() {
    let house = House::start().await;
    assert_eq!(house.change("DELETE", "/sources/sim", "").await, StatusCode::NO_CONTENT);
    house.until("sim is disabled", |sim| sim.state == SourceState::Disabled).await;
    let urls = async || {
        let answer = house.client.get(format!("{}/sources", house.gateway)).send().await.ok()?;
        Some(answer.json::<http::Sources>().await.ok()?.sources)
    };
    let none = async || urls().await.filter(Vec::is_empty);
    eventually(PATIENCE, "no source is fetched", none).await;
    let (said, worked) = house.command(&["list"]);
    assert!(worked && said.contains("sim") && said.contains("disabled"), "{said}");

    let added = house.change("PUT", "/sources/sim", r#"{"symbols":["IBM"]}"#).await;
    assert_eq!(added, StatusCode::OK);
    let sim = house.until("sim runs", |sim| sim.state == SourceState::Running).await;
    assert_eq!(symbols(&sim), ["IBM"]);
    let published = |sim: &SourceStatus| sim.lag_ms.is_some() && sim.last_success.is_some();
    house.until("sim has published", published).await;
    eventually(PATIENCE, "its address is told", async || {
        urls().await.filter(|urls| *urls == ["sim:"]).map(drop)
    })
    .await;

    // Nobody else may, and what makes no sense is refused.
    let url = format!("{}/sources/sim", house.gateway);
    for request in [house.client.put(&url), house.client.delete(&url).bearer_auth("guess")] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    for (path, body, status) in [
        ("/sources/nonsense", "", StatusCode::UNPROCESSABLE_ENTITY),
        ("/sources/sim", r#"{"symbols":[]}"#, StatusCode::UNPROCESSABLE_ENTITY),
        ("/sources/sim", r#"{"url":"http://x"}"#, StatusCode::BAD_REQUEST),
        ("/sources/sim/symbols/A%00", "", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(house.change("PUT", path, body).await, status, "{path} {body}");
    }
    let (said, worked) = house.command(&["unfollow", "sim", "IBM"]);
    assert!(!worked && said.contains("at least one symbol is needed"), "{said}");

    // Somebody writes nonsense past both.
    let what = "what may change while running";
    let bucket = house.registry.nats.bucket(schemas::subject::CONFIG, what, None).await.unwrap();
    bucket.put("sources.sim", "nonsense".into()).await.unwrap();
    let is_told =
        |sim: &SourceStatus| sim.setting_error.is_some() && sim.state == SourceState::Running;
    let sim = house.until("the fault is told", is_told).await;
    assert_eq!(symbols(&sim), ["IBM"]);
    let (said, worked) = house.command(&["reset", "sim"]);
    assert!(worked, "{said}");
    let is_configured = |sim: &SourceStatus| {
        sim.symbols.len() == 2 && sim.setting_error.is_none() && sim.state == SourceState::Running
    };
    house.until("it is as configured", is_configured).await;
}
