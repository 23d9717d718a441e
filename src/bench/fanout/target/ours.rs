//! Ours, as it really runs: a private nats-server with JetStream, and a `lizards provide` that
//! reads `TICKS`.
//!
//! What is counted is the process `provide`, with everything it does for a tick that comes out of
//! the stream: it is received, decoded, encoded and delivered. Writing the store and `last_price`
//! is not among that: where several instances run, one of them has the lease for it, and here the
//! benchmark has it, so that this instance stands by.

use std::{env, ffi::OsStr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use nats::{Broker, Directory, JetStream, Lease, Nats, NatsConfig};
use provide::WRITER_LEASE;
use schemas::subject;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{Process, Server};
use crate::{
    bench::{
        fanout::{
            publisher::Publisher,
            scenario::{Scenario, symbol_name},
        },
        process::{Program, variable},
    },
    config::Config,
};

const START_DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Ours {
    nats: nats::server::Server,
    provide: Program,
    lease: Lease,
    _folder: TempDir,
}

impl Ours {
    /// Starts it with some keys of its configuration set.
    pub(super) async fn start(
        scenario: Scenario,
        settings: &[(&str, String)],
        config: &Config,
    ) -> Result<Server> {
        let folder = TempDir::with_prefix("lizards-bench-")?;
        let private = NatsConfig { port: 0, monitor_port: 0, ..config.nats.clone() };
        let server = nats::server::Server::start(&private, &folder.path().join("nats")).await?;
        let at = NatsConfig { url: server.url().to_owned(), ..NatsConfig::default() };
        let lease_ttl = Duration::from_millis(config.service.lease_ttl_ms);
        let nats = Nats::connect(&at, lease_ttl, 1).await?;
        let broker = Arc::new(JetStream::new(nats.clone(), config.streams.clone()));
        broker.declare().await?;
        let lease = nats.lease(WRITER_LEASE, "bench").await?;
        announce(&nats, scenario).await?;

        let own = [
            ("nats.url", server.url().to_owned()),
            ("data_dir", folder.path().join("data").display().to_string()),
            ("provide.listen", "127.0.0.1:0".to_owned()),
            ("log.level", "warn".to_owned()),
        ];
        let variables: Vec<_> = own
            .iter()
            .chain(settings)
            .map(|(key, value)| (variable(key), value.as_str()))
            .collect();
        let program = env::current_exe()?;
        let mut provide = Program::start(&program, &[OsStr::new("provide")], &variables).await?;
        let directory = Directory::follow(&nats).await?;
        let deadline = Instant::now() + START_DEADLINE;
        let address = loop {
            let found = directory.instances("lizards-provide").into_iter().next();
            if let Some(found) = found {
                let address = format!("{}:{}", found.ip_address, found.port_number);
                if is_ready(&address).await.unwrap_or_default() {
                    break address;
                }
            }
            if provide.has_ended() || Instant::now() > deadline {
                bail!("lizards provide does not get ready");
            }
            sleep(Duration::from_millis(25)).await;
        };
        let publisher = Publisher::jetstream(&*broker).await?;
        let ours = Self { nats: server, provide, lease, _folder: folder };
        Ok(Server { process: Process::Ours(Box::new(ours)), address, publisher })
    }

    pub(super) fn pid(&self) -> u32 {
        self.provide.pid()
    }

    pub(super) fn broker_pid(&self) -> u32 {
        self.nats.pid()
    }

    pub(super) async fn stop(self) {
        self.provide.stop().await;
        self.lease.release().await;
        self.nats.stop().await;
    }
}

/// Makes the symbols known, as sources do: others cannot be subscribed to before their first tick.
async fn announce(nats: &Nats, scenario: Scenario) -> Result<()> {
    let symbols: Vec<_> = (0..scenario.symbols()).map(symbol_name).collect();
    let bucket = nats.bucket(subject::CONFIG, "what may change while running", None).await?;
    let created = bucket.create(subject::SYMBOLS_KEY, serde_json::to_vec(&symbols)?.into()).await?;
    created.context("the bucket of a new server is not empty")?;
    Ok(())
}

/// Does a role say that it is ready?
async fn is_ready(address: &str) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = b"GET /health/ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
