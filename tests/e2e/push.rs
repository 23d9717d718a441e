//! Prices that others bring: posted to the gateway, seen by a WebSocket client.

use std::{io::Write, sync::Arc, time::Duration};

use reqwest::{RequestBuilder, StatusCode};
use schemas::http::{Posted, SourceState, SourceStatus};
use serde_json::json;

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, install_crypto},
    subscriber::Subscriber,
};

const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "correct-horse-battery";

/// All roles, with a source for each format.
struct House {
    nats: NatsServer,
    registry: Arc<Registry>,
    gateway: String,
    client: reqwest::Client,
    _processes: Vec<Process>,
}

impl House {
    async fn start() -> Self {
        install_crypto();
        let nats = NatsServer::start().await;
        let mut installation = Installation::at(&nats.url());
        installation.set("ingest.sources", "");
        let push = json!([
            {"name": "desk", "key": KEY, "format": "ndjson"},
            {"name": "ledger", "key": KEY, "format": "csv"},
        ]);
        installation.set("ingest.push", push);
        let records =
            json!([{"source": "push:ledger", "symbol": "Name", "price": "Kurs", "numbers": ","}]);
        installation.set("records", records);
        let roles = ["ingest", "process", "provide", "gateway"];
        let processes = roles.map(|role| installation.role(role)).into();
        let registry = Arc::new(Registry::at(&nats.url()).await);
        let gateway = format!("http://{}", registry.address("gateway").await);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let house = Self { nats, registry, gateway, client, _processes: processes };
        eventually(PATIENCE, "ingest answers", async || {
            house
                .client
                .get(format!("{}/sources", house.gateway))
                .send()
                .await
                .ok()?
                .error_for_status()
                .ok()
        })
        .await;
        house
    }

    /// How `push:desk` is.
    async fn status(&self) -> SourceStatus {
        let url = format!("{}/sources/push:desk", self.gateway);
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    fn post(
        &self,
        source: &str,
        media_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> RequestBuilder {
        let url = format!("{}/ticks/{source}", self.gateway);
        self.client.post(url).bearer_auth(KEY).header("content-type", media_type).body(body)
    }
}

async fn posted(request: RequestBuilder) -> (StatusCode, Posted) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
}

fn line(symbol: &str, price: &str) -> String {
    let now = jiff::Timestamp::now();
    format!("{{\"symbol\":\"{symbol}\",\"price\":{price},\"ts\":\"{now}\"}}\n")
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_becomes_prices_once() {
    let house = House::start().await;
    let subscriber = Subscriber::follow(Arc::clone(&house.registry), &["*"]);
    let ndjson = "application/x-ndjson";
    let body = format!("{}{}", line("DESK.A", "1.50"), line("DESK.B", "2.50"));
    let first = house.post("push:desk", ndjson, body.clone()).header("idempotency-key", "\"7\"");
    let (status, first) = posted(first).await;
    assert_eq!((status, first.duplicate), (StatusCode::ACCEPTED, false));
    // The answer was lost, as far as the caller knows.
    let again = house.post("push:desk", ndjson, body.clone()).header("idempotency-key", "7");
    let (status, again) = posted(again).await;
    assert_eq!((status, again.duplicate, &again.id), (StatusCode::OK, true, &first.id));
    // Another payload is another payload, whatever its caller calls it; and so is every one without
    // a name.
    let other =
        house.post("push:desk", ndjson, line("DESK.A", "1.60")).header("idempotency-key", "7");
    assert_eq!(posted(other).await.0, StatusCode::ACCEPTED);
    let print = line("DESK.B", "2.75");
    for _ in 0..2 {
        let (status, _) = posted(house.post("push:desk", ndjson, print.clone())).await;
        assert_eq!(status, StatusCode::ACCEPTED);
    }
    let now = jiff::Timestamp::now();
    let csv = format!("Name,Kurs,ts\nSAP,\"1.234,50\",{now}\n");
    let zipped =
        house.post("push:ledger", "text/csv", gzip(&csv)).header("content-encoding", "gzip");
    assert_eq!(posted(zipped).await.0, StatusCode::ACCEPTED);

    eventually(PATIENCE, "six prices", async || (subscriber.count() >= 6).then_some(())).await;
    // What would come twice has a little time to show itself.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let received = subscriber.received();
    let prices = |symbol: &str| {
        let of = received.iter().filter(|update| update.symbol == symbol);
        of.map(|update| update.price.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(prices("DESK.A"), ["1.50", "1.60"]);
    assert_eq!(prices("DESK.B"), ["2.50", "2.75", "2.75"]);
    assert_eq!(prices("SAP"), ["1234.50"]);
    assert_eq!(house.status().await.published, 4);

    // It is not fetched, so it cannot be set not to be; whoever writes that changes nothing.
    let what = "what may change while running";
    let bucket = house.registry.nats.bucket(schemas::subject::CONFIG, what, None).await.unwrap();
    let key = schemas::subject::setting_of(&schemas::Source::new("push:desk").unwrap());
    bucket.put(&key, r#"{"enabled":false}"#.into()).await.unwrap();
    let told = async || house.status().await.setting_error;
    let fault = eventually(PATIENCE, "the setting is refused", told).await;
    assert!(fault.contains("ingest.push"), "{fault}");
    let status = house.status().await;
    assert_eq!((status.published, status.url.as_str()), (4, "/ticks/push:desk"));
    assert_eq!(status.state, SourceState::Running);
    let (code, _) = posted(house.post("push:desk", ndjson, line("DESK.A", "1.70"))).await;
    assert_eq!(code, StatusCode::ACCEPTED);
    bucket.delete(&key, None).await.unwrap();
    let forgotten = async || house.status().await.setting_error.is_none().then_some(());
    eventually(PATIENCE, "the setting is gone", forgotten).await;
    let status = house.status().await;
    assert_eq!((status.published, status.state), (5, SourceState::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_told_why() {
    let mut house = House::start().await;
    let ndjson = "application/x-ndjson";
    let good = || house.post("push:desk", ndjson, line("DESK.A", "1"));
    let too_large = vec![b' '; 600 * 1024];
    for (request, status) in [
        (house.post("push:nobody", ndjson, "{}"), StatusCode::UNAUTHORIZED),
        (house.post("push:desk", "text/csv", "a,b"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (good().header("content-encoding", "br"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (good().header("content-encoding", "gzip"), StatusCode::UNPROCESSABLE_ENTITY),
        (good().header("idempotency-key", "a b"), StatusCode::BAD_REQUEST),
        (house.post("push:desk", ndjson, ""), StatusCode::UNPROCESSABLE_ENTITY),
        (house.post("push:desk", ndjson, too_large), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
    }
    let url = format!("{}/ticks/push:desk", house.gateway);
    for request in
        [house.client.post(&url), house.client.post(&url).bearer_auth("guess-guess-guess")]
    {
        let answer = request.header("content-type", ndjson).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    // Nothing is said to be stored that is not.
    let address = house.registry.address("ingest").await;
    house.nats.kill().await;
    let url = format!("http://{address}/ticks/push:desk");
    let request = house.client.post(&url).bearer_auth(KEY).header("content-type", ndjson);
    let answer = request.body(line("DESK.A", "1")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
}
