//! What a payload would become: asked by gRPC, by NATS and on the command line, it is what the
//! pipeline then makes of it, and asking leaves nothing behind.

mod owners;

use std::time::Duration;

use async_nats::HeaderMap;
use nats::{
    Broker, JetStream, Message, Start, StreamState,
    topology::{Stream, StreamsConfig},
};
use schemas::{DryRun, Flag, Tick, headers, subject};
use serde_json::Value;
use tonic::{Code, Status, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    eventually::eventually,
    lizards::{Installation, Process, Registry},
    servers::{NatsServer, install_crypto},
};

const PATIENCE: Duration = Duration::from_secs(60);
const GOOD: usize = 500;
const RECEIVED_AT: &str = "2024-01-02T03:04:05.000000000Z";
const PROCESS_DATA: &str = "/dataprocessor.DataProcessor/ProcessData";

/// As any client has it that was made from the proto file.
#[derive(Clone, PartialEq, prost::Message)]
struct RawData {
    #[prost(string, tag = "1")]
    content: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProcessingResponse {
    #[prost(string, tag = "1")]
    status: String,
    #[prost(string, tag = "2")]
    message: String,
}

/// A processor.
struct House {
    nats: NatsServer,
    installation: Installation,
    process: Process,
    registry: Registry,
    broker: JetStream,
    client: async_nats::Client,
    address: String,
}

impl House {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A processor with these settings.
    async fn with(settings: &[(&str, &str)]) -> Self {
        install_crypto();
        let nats = NatsServer::start().await;
        let mut installation = Installation::at(&nats.url());
        settings.iter().for_each(|(key, value)| installation.set(key, value));
        let registry = Registry::at(&nats.url()).await;
        let broker = JetStream::new(registry.nats.clone(), StreamsConfig::default());
        let process = installation.role("process");
        let address = registry.address("process").await;
        let client = async_nats::connect(nats.url()).await.unwrap();
        // It is registered a moment before it is announced.
        eventually(PATIENCE, "the endpoint is announced", async || {
            let info = client.request("$SRV.INFO.lizards-process", "".into()).await.ok()?;
            let info: Value = serde_json::from_slice(&info.payload).ok()?;
            info["endpoints"].as_array().filter(|endpoints| endpoints.len() == 2).map(drop)
        })
        .await;
        Self { nats, installation, process, registry, broker, client, address }
    }

    async fn channel(&self) -> Channel {
        channel(&self.address).await
    }

    async fn by_grpc(
        &self,
        content: &str,
        metadata: &[(&'static str, &str)],
    ) -> Result<ProcessingResponse, Status> {
        Self::by_grpc_at(&self.address, content, metadata).await
    }

    async fn by_grpc_at(
        address: &str,
        content: &str,
        metadata: &[(&'static str, &str)],
    ) -> Result<ProcessingResponse, Status> {
        let mut client = tonic::client::Grpc::new(channel(address).await);
        client.ready().await.unwrap();
        let mut request = tonic::Request::new(RawData { content: content.to_owned() });
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let codec = ProstCodec::default();
        let answer = client.unary(request, PathAndQuery::from_static(PROCESS_DATA), codec).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn by_nats(&self, content: &str, headers: &[(&'static str, &str)]) -> Message {
        let headers = map(headers);
        let asked =
            self.client.request_with_headers(subject::DRY_RUN, headers, content.to_owned().into());
        let answer = asked.await.unwrap();
        let headers = answer.headers.iter().flat_map(HeaderMap::iter);
        let headers = headers.map(|(name, values)| (name.to_string(), values[0].to_string()));
        Message {
            subject: String::new(),
            headers: headers.collect(),
            body: answer.payload,
            sequence: 0,
            stored_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    /// As a source does.
    async fn publish(&self, id: &str, content: &str) {
        let mut headers = map(&envelope(id));
        headers.insert(headers::FORMAT, "ndjson");
        let subject = "ticks.raw.push:desk._";
        self.client
            .publish_with_headers(subject, headers, content.to_owned().into())
            .await
            .unwrap();
    }

    async fn read(&self, stream: Stream, start: u64, count: usize) -> Vec<Message> {
        eventually(PATIENCE, &format!("{stream} has {count} more"), async || {
            let last = self.broker.state(stream).await.map_or(0, |state| state.last_sequence);
            (last >= start + count as u64 - 1).then_some(())
        })
        .await;
        let mut reader = self.broker.reader(stream, &[], Start::Sequence(start)).await.unwrap();
        let mut messages: Vec<Message> = Vec::new();
        while messages.len() < count {
            messages.push(reader.next().await.unwrap());
        }
        messages
    }

    async fn streams(&self) -> Vec<StreamState> {
        let mut states = Vec::new();
        for stream in [Stream::Raw, Stream::Ticks, Stream::Rejected, Stream::Candles] {
            states.push(self.broker.state(stream).await.unwrap());
        }
        states
    }
}

async fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    map
}

fn envelope(id: &str) -> [(&'static str, &str); 3] {
    [(headers::MESSAGE_ID, id), (headers::SOURCE, "push:desk"), (headers::RECEIVED_AT, RECEIVED_AT)]
}

fn metadata(id: &str) -> [(&'static str, &str); 3] {
    [("nats-msg-id", id), ("lizards-source", "push:desk"), ("lizards-received-at", RECEIVED_AT)]
}

/// What the service says of the endpoint that everybody asks.
fn endpoint(said: &Value) -> &Value {
    let endpoints = said["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["name"] == "dry_run").unwrap()
}

fn row(symbol: &str, price: &str, second: u8) -> String {
    let ts = format!("2024-01-02T03:04:{second:02}Z");
    format!("{{\"symbol\":\"{symbol}\",\"price\":\"{price}\",\"ts\":\"{ts}\"}}\n")
}

/// Good rows, and one that is not.
fn rows() -> String {
    let mut rows: Vec<_> = (0..GOOD).map(|n| row(&format!("S{n}"), "1.50", 1)).collect();
    rows.insert(7, row("BAD", "soon", 1));
    rows.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_the_pipeline_then_makes() {
    let house = House::start().await;
    // Something to remember: a later event of one of the symbols.
    house.publish("seed", &row("S3", "1.50", 4)).await;
    let seeded = house.read(Stream::Ticks, 1, 1).await[0].sequence;

    let before = house.streams().await;
    let body = rows();
    let by_grpc = house.by_grpc(&body, &metadata("desk:1")).await.unwrap();
    assert_eq!(by_grpc.status, "partly_rejected");
    let run: DryRun = serde_json::from_str(&by_grpc.message).unwrap();
    assert_eq!((run.tick_count, run.rejection_count), (GOOD, 1));
    assert_eq!((run.ticks.len(), run.rejections.len(), run.left_out), (GOOD, 1, 0));
    assert_eq!(run.not_asked, None);
    let flags: Vec<_> = run.ticks.iter().filter(|tick| !tick.flags.is_empty()).collect();
    assert_eq!(
        (flags[0].symbol.as_str(), flags[0].flags.as_slice()),
        ("S3", &[Flag::OutOfOrder][..])
    );
    assert_eq!(flags.len(), 1, "{flags:?}");

    // The same to whoever asks by NATS, and to whoever asks again: nothing is remembered of it.
    for _ in 0..2 {
        let by_nats = house.by_nats(&body, &envelope("desk:1")).await;
        assert_eq!(std::str::from_utf8(&by_nats.body).unwrap(), by_grpc.message);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(house.streams().await, before, "a dry run leaves nothing behind");

    house.publish("desk:1", &body).await;
    let made = house.read(Stream::Ticks, seeded + 1, GOOD).await;
    let made: Vec<Tick> = made
        .iter()
        .map(|message| serde_json::from_slice(&message.body).unwrap())
        .map(|tick: Tick| Tick { raw_seq: 0, ..tick })
        .collect();
    assert_eq!(made, run.ticks);
    let rejected = house.read(Stream::Rejected, before[2].last_sequence + 1, 1).await;
    let [rejection] = run.rejections.as_slice() else { panic!("{:?}", run.rejections) };
    assert_eq!(rejected[0].header(headers::ERROR), Some(rejection.error.as_str()));
    assert_eq!(rejected[0].header(headers::REASON), Some(rejection.reason.as_str()));
    assert_eq!(rejected[0].header(headers::EVENT), Some(rejection.event.to_string().as_str()));

    // By now each of them is a tick.
    let again = house.by_grpc(&body, &metadata("desk:1")).await.unwrap();
    let run: DryRun = serde_json::from_str(&again.message).unwrap();
    assert_eq!((again.status.as_str(), run.rejection_count), ("rejected", GOOD + 1));
    assert!(run.rejections.iter().filter(|why| why.reason == "duplicate").count() == GOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_and_http_share_a_port() {
    let house = House::start().await;
    let invalid = house.by_grpc("x", &[("lizards-source", "no source")]).await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);
    assert!(invalid.message().starts_with("lizards-source: \"no source\""), "{invalid}");
    let large = "x".repeat(512 * 1024 + 1);
    let invalid = house.by_grpc(&large, &[]).await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);
    assert!(invalid.message().starts_with("content: has 524289 bytes"), "{invalid}");
    let larger = house.by_grpc(&"x".repeat(2 * 1024 * 1024), &[]).await.unwrap_err();
    assert_eq!(larger.code(), Code::OutOfRange);
    let good = house.by_grpc(&row("AAPL", "1", 1), &[]).await.unwrap();
    assert_eq!(good.status, "accepted");

    // What grpcurl asks.
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(house.channel().await);
    let asked = futures_util::stream::iter([request]);
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"dataprocessor.DataProcessor"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let live = format!("http://{}/health/live", house.address);
    assert_eq!(reqwest::get(live).await.unwrap().text().await.unwrap(), "ok");
    let metrics = format!("http://{}/metrics", house.address);
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    for counted in ["accepted\"} 1", "invalid\"} 2"] {
        let line = format!("lizards_process_dry_runs_total{{status=\"{counted}");
        assert!(metrics.contains(&line), "{metrics}");
    }

    // Whoever watches the health does not hold up the end.
    let mut health = HealthClient::new(house.channel().await);
    let service = "dataprocessor.DataProcessor".to_owned();
    let watched = health.watch(HealthCheckRequest { service }).await.unwrap();
    let mut watched = watched.into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1, "it is serving");
    house.process.signal("TERM");
    assert!(watched.message().await.is_ok_and(|message| message.is_none()), "a clean end");
    eventually(Duration::from_secs(8), "the role has stopped", async || {
        let log = house.process.log();
        assert!(!log.contains("requests were still open"), "{log}");
        let is_gone = house.registry.instances("process").is_empty();
        (is_gone && log.contains("stopped role=")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_names_its_endpoint_and_refuses_in_headers() {
    let house = House::start().await;
    let info = house.client.request("$SRV.INFO.lizards-process", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(endpoint(&info)["subject"], subject::DRY_RUN);
    let refused = house.by_nats("x", &[("Lizards-Received-At", "yesterday")]).await;
    assert_eq!(refused.header("Nats-Service-Error-Code"), Some("400"));
    let error = refused.header("Nats-Service-Error").unwrap();
    assert!(error.starts_with("Lizards-Received-At: \"yesterday\""), "{error}");
    let stats = house.client.request("$SRV.STATS.lizards-process", "".into()).await.unwrap();
    let stats: Value = serde_json::from_slice(&stats.payload).unwrap();
    assert_eq!(endpoint(&stats)["num_errors"], 1);

    // On the command line.
    let file = house.installation.folder().join("rows.ndjson");
    std::fs::write(&file, row("AAPL", "1.50", 1) + &row("MSFT", "soon", 1)).unwrap();
    let file = file.display().to_string();
    let ask = |args: &[&str]| {
        let mut command = house.installation.command(&[&["dry-run"], args].concat());
        let output = tokio::task::block_in_place(|| command.output()).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (accepted, said) = ask(&[&file, "--source", "push:desk"]);
    assert!(!accepted, "{said}");
    let first = "partly_rejected: 1 of 2 would be ticks; read as ndjson of push:desk\n";
    assert!(said.starts_with(first), "{said}");
    assert!(said.contains("AAPL    1.50") && said.contains("1      invalid_field"), "{said}");
    let (accepted, json) = ask(&[&file, "--json"]);
    let run: DryRun = serde_json::from_str(&json).expect(&json);
    assert!(!accepted && run.detected && run.tick_count == 1);
    let (accepted, said) = ask(&[&file, "--source", "file", "--content-type", "text/csv"]);
    assert!(!accepted && said.starts_with("lizards: lizards-columns: is missing"), "{said}");
    drop(house.process);
    eventually(PATIENCE, "nobody answers", async || {
        ask(&[&file]).1.contains("nobody answers at lizards.process.dry_run").then_some(())
    })
    .await;
    drop(house.nats);
}
