//! A target with providers and a nats-server of its own.

use std::{env, ffi::OsStr, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use nats::{Broker, JetStream, Nats, NatsConfig, Start, server::Server, topology::Stream};
use schemas::{headers, subject};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{
    Load, Target,
    load::SYMBOLS,
    provider::Feed,
    report::Run,
    stub::{Order, Report, Said},
    verdict::{Delays, Expected, key},
};
use crate::{
    bench::{
        process::{Answers, CpuTime, Helper, Program, variable},
        statistics::Quantiles,
        stored,
    },
    config::Config,
};

/// From the first round of all that is followed to the beginning of what is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// A target that fetches.
pub(super) struct Rig {
    load: Load,
    server: Server,
    broker: JetStream,
    providers: Helper,
    said: Answers,
    target: Program,
    _folder: TempDir,
}

impl Rig {
    /// Starts everything, and waits until all is followed. `core` is the target's.
    pub(super) async fn start(
        target: Target,
        load: Load,
        core: Option<usize>,
        config: &Config,
    ) -> Result<Self> {
        let folder = TempDir::with_prefix("lizards-bench-")?;
        let private = NatsConfig { port: 0, monitor_port: 0, ..config.nats.clone() };
        let server = Server::start(&private, &folder.path().join("nats")).await?;
        let at = NatsConfig { url: server.url().to_owned(), ..NatsConfig::default() };
        let nats = Nats::connect(&at, Duration::from_secs(10), 1).await?;
        let broker = JetStream::new(nats, config.streams.clone());
        broker.declare().await?;
        let load_args = load.args();
        let args: Vec<_> = ["bench", "ingest-stub"]
            .into_iter()
            .chain(load_args.iter().map(String::as_str))
            .collect();
        let (providers, mut said) = Helper::start(&args)?;
        let Said::Listening(address) = said.hear().await? else {
            bail!("the providers do not listen")
        };
        let data = folder.path().join("data");
        let target = launch(target, load, core, server.url(), &address, &data).await?;
        let Said::Followed = said.hear().await? else { bail!("not all is followed") };
        Ok(Self { load, server, broker, providers, said, target, _folder: folder })
    }

    /// Lets it fetch for a time, and looks at what became of it.
    pub(super) async fn measure(mut self, secs: f64) -> Result<Run> {
        sleep(WARM_UP).await;
        self.providers.give(&Order::Begin).await?;
        let (began, since) = (Instant::now(), Timestamp::now());
        let before = (CpuTime::of(self.target.pid())?, CpuTime::of(self.server.pid())?);
        sleep(Duration::from_secs_f64(secs)).await;
        let target = CpuTime::of(self.target.pid())?.since(&before.0);
        let server = CpuTime::of(self.server.pid())?.since(&before.1);
        let elapsed = began.elapsed();
        self.providers.give(&Order::End).await?;
        let Said::Report(report) = self.said.hear().await? else { bail!("no report") };
        let (connections, expected) = (report.connections, self.load.connections);
        ensure!(connections == expected, "{connections} connections were made, not {expected}");
        let (mut delays, late) = (self.delays(&report, since).await?, report.late);
        self.target.stop().await;
        self.providers.stop().await;
        self.server.stop().await;
        let count = delays.trades.len() + delays.quotes.len();
        let each = |used: Duration| used.as_secs_f64() * 1e6 / count as f64;
        Ok(Run {
            core_share: target.as_secs_f64() / elapsed.as_secs_f64(),
            payloads_per_sec: count as f64 / elapsed.as_secs_f64(),
            target_us: each(target),
            server_us: each(server),
            late,
            quotes: Quantiles::of(&mut delays.quotes),
            trades: Quantiles::of(&mut delays.trades),
        })
    }

    /// Waits until all that was sent is stored, and looks at each message.
    async fn delays(&self, report: &Report, since: Timestamp) -> Result<Delays> {
        let count = report.sent.len() as u64;
        stored::until(&self.broker, Stream::Raw, count).await?;
        let mut expected = Expected::new(&report.sent, since)?;
        let mut reader = self.broker.reader(Stream::Raw, &[], Start::Sequence(1)).await?;
        for _ in 0..count {
            let message = reader.next().await?;
            let source = message.header(headers::SOURCE).context("a message without its source")?;
            let symbol = subject::symbol_of_raw(&message.subject).context("one without symbol")?;
            expected.stored(key(source, symbol.as_str(), &message.body), message.stored_at)?;
        }
        let found = self.broker.state(Stream::Raw).await?.messages;
        ensure!(found == count, "{found} messages are stored, not {count}");
        expected.end()
    }
}

/// Starts the target, on its core if it has one.
async fn launch(
    target: Target,
    load: Load,
    core: Option<usize>,
    nats: &str,
    providers: &str,
    data: &Path,
) -> Result<Program> {
    let program = env::current_exe()?;
    let load_args = load.args();
    let mut args: Vec<&OsStr> = Vec::new();
    let core = core.map(|core| core.to_string());
    if let Some(core) = &core {
        args.extend(["-c", core].map(OsStr::new));
        args.push(program.as_os_str());
    }
    match target {
        Target::Bare => {
            args.extend(["bench", "ingest-bare", providers].map(OsStr::new));
            args.extend(load_args.iter().map(OsStr::new));
        }
        Target::Ours | Target::WithArchive => args.push(OsStr::new("ingest")),
    }
    let settings = settings(target, load, providers);
    let data = data.to_string_lossy();
    let common = [("nats.url", nats), ("data_dir", &data), ("log.level", "warn")];
    let own = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let environment: Vec<_> =
        common.into_iter().chain(own).map(|(key, value)| (variable(key), value)).collect();
    let first = if core.is_some() { Path::new("taskset") } else { &program };
    Program::start(first, &args, &environment).await
}

/// The configuration of ours.
fn settings(target: Target, load: Load, providers: &str) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut settings = vec![("ingest.listen".to_owned(), "127.0.0.1:0".to_owned())];
    let mut set = |key: String, value: String| settings.push((key, value));
    if load.polled > 0 {
        sources.push("finnhub");
        for (key, value) in [
            ("mode", "quotes".to_owned()),
            ("url", format!("http://{providers}/api/v1")),
            ("api_key", "bench".to_owned()),
            ("symbols", load.polled_symbols().join(",")),
            ("interval_secs", load.interval_secs.to_string()),
            ("requests_per_minute", "0".to_owned()),
        ] {
            set(format!("ingest.finnhub.{key}"), value);
        }
    }
    for feed in Feed::ALL {
        let (name, symbols) = (feed.name(), load.followed(feed).concat());
        if symbols.is_empty() {
            continue;
        }
        sources.push(name);
        set(format!("ingest.{name}.url"), format!("ws://{providers}/{name}"));
        set(format!("ingest.{name}.symbols"), symbols.join(","));
        set(format!("ingest.{name}.symbols_per_connection"), SYMBOLS.to_string());
    }
    set("ingest.sources".to_owned(), sources.join(","));
    if target != Target::WithArchive {
        set("ingest.archive.url".to_owned(), "none".to_owned());
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_told_to_follow_what_is_offered() {
        let load = Load {
            polled: 2,
            interval_secs: 3,
            answer_ms: 0,
            connections: 2,
            per_sec: 1,
            burst: 0,
        };
        let settings = settings(Target::Ours, load, "127.0.0.1:1");
        let value = |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, v)| &**v);
        assert_eq!(value("ingest.sources"), Some("finnhub,coinbase,kraken"));
        assert_eq!(value("ingest.finnhub.symbols"), Some("S0000,S0001"));
        let followed = value("ingest.kraken.symbols").unwrap();
        assert_eq!(followed.split(',').count(), SYMBOLS);
        assert_eq!(value("ingest.binance.symbols"), None);
        assert_eq!(value("ingest.archive.url"), Some("none"));
    }
}
