//! A publisher with a nats-server of its own.

use std::{env, ffi::OsStr, path::Path, time::Duration};

use anyhow::{Result, ensure};
use async_nats::jetstream;
use nats::{Broker, JetStream, Nats, NatsConfig, server::Server, topology::Stream};
use schemas::subject;
use tempfile::TempDir;

use super::Target;
use crate::{
    bench::{
        process::{CpuTime, Program, variable},
        rates::Run,
        stored,
    },
    config::Config,
};

/// Lets the publisher store so many rows of the file.
pub(super) async fn measure(
    target: Target,
    config: &Config,
    file: &Path,
    messages: usize,
) -> Result<Run> {
    let folder = TempDir::with_prefix("lizards-bench-")?;
    let private = NatsConfig { port: 0, monitor_port: 0, ..config.nats.clone() };
    let server = Server::start(&private, &folder.path().join("nats")).await?;
    let at = NatsConfig { url: server.url().to_owned(), ..NatsConfig::default() };
    let broker = JetStream::new(
        Nats::connect(&at, Duration::from_secs(10), 1).await?,
        config.streams.clone(),
    );
    broker.declare().await?;
    if matches!(target, Target::Fast | Target::FastIds) {
        allow_fast(server.url()).await?;
    }
    let before = CpuTime::of(server.pid())?;
    let process = start(target, server.url(), folder.path(), file, messages).await?;
    stored::until(&broker, Stream::Raw, messages as u64).await?;
    let (used, own) = (CpuTime::of(server.pid())?.since(&before), CpuTime::of(process.pid())?);
    let (first, last) = stored::first_and_last(&broker, Stream::Raw).await?;
    let found = broker.state(Stream::Raw).await?.messages;
    ensure!(found == messages as u64, "{found} messages are stored, not {messages}");
    process.stop().await;
    server.stop().await;
    let elapsed = last.stored_at.duration_since(first.stored_at).as_secs_f64();
    let each = |cpu: Duration| cpu.div_f64(messages as f64);
    Ok(Run {
        per_sec: (messages - 1) as f64 / elapsed,
        server: each(used),
        target: each(own.total()),
    })
}

async fn start(
    target: Target,
    url: &str,
    folder: &Path,
    file: &Path,
    messages: usize,
) -> Result<Program> {
    let (data, path) = (folder.join("data"), file.to_string_lossy());
    let (data, messages) = (data.to_string_lossy(), messages.to_string());
    let environment = [
        ("nats.url", url),
        ("data_dir", &data),
        ("ingest.listen", "127.0.0.1:0"),
        ("ingest.sources", "file"),
        ("ingest.file.path", &path),
        ("ingest.file.speed", "max"),
        // That is more than the others do.
        ("ingest.archive.url", "none"),
        ("log.level", "warn"),
    ]
    .map(|(key, value)| (variable(key), value));
    let how = match target {
        Target::Futures => "futures",
        Target::Inbox => "inbox",
        Target::FastIds => "fast-ids",
        Target::Fast => "fast",
        Target::Ours => "",
    };
    let args = match target {
        Target::Ours => vec!["ingest"],
        _ => vec!["bench", "publish-bare", how, &path, &messages],
    };
    let args: Vec<_> = args.into_iter().map(OsStr::new).collect();
    Program::start(&env::current_exe()?, &args, &environment).await
}

async fn allow_fast(url: &str) -> Result<()> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let stream = jetstream.get_stream(subject::TICKS_RAW).await?;
    let mut config = stream.cached_info().config.clone();
    config.allow_batch_publish = true;
    jetstream.update_stream(config).await?;
    Ok(())
}
