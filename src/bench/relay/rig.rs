//! A target with a nats-server of its own.

use std::{env, ffi::OsStr, process::Command, time::Duration};

use anyhow::{Result, bail, ensure};
use async_nats::{Client, HeaderMap, jetstream};
use nats::{Broker, JetStream, Nats, NatsConfig, server::Server, topology::Stream};
use schemas::subject;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Target, bare};
use crate::{
    bench::{
        cores,
        process::{CpuTime, Program, resident_bytes, variable},
        rates::Run,
        stored, trades,
    },
    config::Config,
};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// How many payloads are sent before it is seen that they are stored.
const FILL_CHUNK: usize = 20_000;

/// A target that stands ready.
pub(super) struct Rig {
    server: Server,
    processes: Vec<Program>,
    nats: Nats,
    pub(super) broker: JetStream,
    pub(super) client: Client,
    _folder: TempDir,
}

impl Rig {
    pub(super) async fn start(target: Target, config: &Config) -> Result<Self> {
        let folder = TempDir::with_prefix("lizards-bench-")?;
        let private = NatsConfig { port: 0, monitor_port: 0, ..config.nats.clone() };
        let server = Server::start(&private, &folder.path().join("nats")).await?;
        let at = NatsConfig { url: server.url().to_owned(), ..NatsConfig::default() };
        // A process that is halted keeps its lease.
        let lease_ttl = Duration::from_secs(600);
        let nats = Nats::connect(&at, lease_ttl, 1).await?;
        let broker = JetStream::new(nats.clone(), config.streams.clone());
        broker.declare().await?;
        let client = async_nats::connect(server.url()).await?;
        let (data, ttl) = (folder.path().join("data"), lease_ttl.as_millis().to_string());
        let data = data.to_string_lossy();
        let environment = [
            ("nats.url", server.url()),
            ("data_dir", &data),
            ("process.listen", "127.0.0.1:0"),
            // That is more than the relays do.
            ("process.candles.intervals", "[]"),
            ("service.lease_ttl_ms", &ttl),
            ("log.level", "warn"),
        ]
        .map(|(key, value)| (variable(key), value));
        let (args, count): (&[&str], _) = match target {
            Target::Futures => (&["bench", "relay-bare", "futures"], 1),
            Target::Inbox => (&["bench", "relay-bare", "inbox"], 1),
            Target::Ours(count) => (&["process"], count),
        };
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(Program::start(&env::current_exe()?, &args, &environment).await?);
        }
        let mut rig = Self { server, processes, nats, broker, client, _folder: folder };
        rig.until_ready(target, config).await?;
        Ok(rig)
    }

    async fn until_ready(&mut self, target: Target, config: &Config) -> Result<()> {
        let since = Instant::now();
        while !self.is_ready(target, config).await? {
            let has_ended = self.processes.iter_mut().any(Program::has_ended);
            if has_ended || since.elapsed() > READY_WITHIN {
                bail!("{} does not get ready", target.name());
            }
            sleep(Duration::from_millis(50)).await;
        }
        // What it has just taken over it still has to open.
        sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    async fn is_ready(&self, target: Target, config: &Config) -> Result<bool> {
        let Target::Ours(count) = target else {
            let stream = jetstream::new(self.client.clone()).get_stream(subject::TICKS_RAW).await?;
            return Ok(stream.consumer_info(bare::CONSUMER).await.is_ok());
        };
        let keys: Vec<_> = (0..config.process.partitions)
            .map(|partition| format!("process.{partition}"))
            .collect();
        let holders = self.nats.holders(&keys).await?;
        let owners: std::collections::BTreeSet<_> = holders.iter().flatten().collect();
        Ok(holders.iter().all(Option::is_some) && owners.len() == usize::from(count))
    }

    /// From now on its nats-server runs on this core.
    pub(super) fn move_server_to(&self, core: usize) -> Result<()> {
        cores::move_to(core, self.server.pid())
    }

    /// Stores the payloads while the target is halted, and lets it go.
    pub(super) async fn measure(self, payloads: &[String]) -> Result<Run> {
        self.signal("STOP")?;
        let mut count = 0;
        // The server drops what it is sent faster than it can store.
        for payloads in payloads.chunks(FILL_CHUNK) {
            for payload in payloads {
                publish(&self.client, count, payload).await?;
                count += 1;
            }
            self.client.flush().await?;
            stored::until(&self.broker, Stream::Raw, count as u64).await?;
        }
        let count = count as u64;
        let (server, target) = (self.server_cpu()?, self.target_cpu()?);
        self.signal("CONT")?;
        stored::until(&self.broker, Stream::Ticks, count).await?;
        let (server, target) = (
            self.server_cpu()?.since(&server),
            self.target_cpu()?.iter().zip(&target).map(|(now, then)| now.since(then)).sum(),
        );
        let (first, last) = stored::first_and_last(&self.broker, Stream::Ticks).await?;
        ensure!(self.broker.state(Stream::Ticks).await?.messages == count, "a tick is doubled");
        self.stop().await;
        let elapsed = last.stored_at.duration_since(first.stored_at).as_secs_f64();
        let each = |cpu: Duration| cpu.div_f64(count as f64);
        Ok(Run {
            per_sec: (count - 1) as f64 / elapsed,
            server: each(server),
            target: each(target),
        })
    }

    fn signal(&self, signal: &str) -> Result<()> {
        for process in &self.processes {
            let pid = process.pid().to_string();
            let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
            ensure!(sent.success(), "kill -s {signal} {pid}");
        }
        Ok(())
    }

    fn server_cpu(&self) -> Result<CpuTime> {
        CpuTime::of(self.server.pid())
    }

    fn target_cpu(&self) -> Result<Vec<CpuTime>> {
        self.processes.iter().map(|process| CpuTime::of(process.pid())).collect()
    }

    /// The memory of the target.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        self.processes.iter().map(|process| resident_bytes(process.pid())).sum()
    }

    pub(super) async fn stop(self) {
        for process in self.processes {
            process.stop().await;
        }
        self.server.stop().await;
    }
}

/// Publishes a row as `ingest` does, without waiting for its receipt.
pub(super) async fn publish(client: &Client, number: usize, row: &str) -> Result<()> {
    let raw = trades::payload(number, row)?;
    let mut headers = HeaderMap::new();
    for (name, value) in raw.headers() {
        headers.insert(name, value);
    }
    let subject = subject::raw(&raw.source, raw.symbol.as_ref());
    client.publish_with_headers(subject, headers, raw.body).await?;
    Ok(())
}
