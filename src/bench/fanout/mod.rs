//! `lizards bench fanout`: what a delivery over WebSocket costs the server, in processor time.
//!
//! Every target gets the same ticks for the same clients in turn, several times, and every client
//! has to receive each of its updates once and in order: otherwise the run fails. The server and
//! the clients are processes of their own; the processor time is that of the server alone, as the
//! operating system's scheduler counts it.

mod load;
mod mode;
mod payload;
mod publisher;
mod report;
mod rig;
mod scenario;
mod server;
mod target;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use tokio::time::sleep;

use crate::{
    bench::process::resident_bytes,
    config::Config,
    print::{complain, print},
};
use mode::Mode;
use report::{Idle, Report, Row, Section};
use rig::Rig;
use target::{Server, Target};

pub(crate) use load::{LoadOptions, load};
pub(crate) use server::{ServerOptions, serve};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The modes [default: all]
    #[arg(long, value_delimiter = ',', value_name = "MODE")]
    only: Vec<Mode>,
    /// The servers [default: all]
    #[arg(long, value_delimiter = ',', value_name = "TARGET")]
    targets: Vec<Target>,
    /// How many clients, several times [default: what the mode is about]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    clients: Vec<u64>,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 3, value_name = "N")]
    repeat: usize,
    /// How long each time, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    secs: f64,
    /// Write everything as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn modes(&self) -> &[Mode] {
        if self.only.is_empty() { Mode::value_variants() } else { &self.only }
    }

    fn targets(&self, mode: Mode) -> Vec<Target> {
        let all = if self.targets.is_empty() {
            Target::value_variants()
        } else {
            self.targets.as_slice()
        };
        all.iter().copied().filter(|target| mode.suits(*target)).collect()
    }

    fn clients(&self, mode: Mode) -> &[u64] {
        if self.clients.is_empty() { mode.clients() } else { &self.clients }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.secs.clamp(0.01, 3_600.0))
    }
}

/// Measures, and prints each table as soon as it is whole.
pub(crate) async fn run(options: &Options, config: &Config) -> Result<()> {
    ensure!(options.repeat > 0, "--repeat: 0 would measure nothing");
    let mut report = Report::default();
    for mode in options.modes() {
        for clients in options.clients(*mode) {
            if *mode == Mode::Idle {
                measure_idle(options, config, *clients, &mut report).await?;
            } else {
                measure(options, config, *mode, *clients, &mut report).await?;
            }
        }
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("--json {}", file.display()))?;
    }
    Ok(())
}

/// One mode with one number of clients: all targets at once stand ready, and work in turn.
async fn measure(
    options: &Options,
    config: &Config,
    mode: Mode,
    clients: u64,
    report: &mut Report,
) -> Result<()> {
    let mut rigs = Vec::new();
    for target in options.targets(mode) {
        complain(format_args!("{}: {clients} clients of {}", mode.name(), target.name()));
        let server = Server::start(target, mode.scenario(), mode.coalesce_ms(), config)
            .await
            .with_context(|| target.name())?;
        rigs.push(Rig::connect(target, server, mode.scenario(), clients).await?);
    }
    let remark = if mode == Mode::Slow { "all of them read" } else { "" };
    let rows = repeat(options, mode, clients, &mut rigs).await?;
    show(report, Section { mode, remark, clients, rows })?;
    if mode == Mode::Slow {
        for rig in &mut rigs {
            rig.stall_one().await?;
        }
        let rows = repeat(options, mode, clients, &mut rigs).await?;
        show(report, Section { mode, remark: "one does not read", clients, rows })?;
    }
    for rig in rigs {
        rig.stop().await;
    }
    Ok(())
}

async fn repeat(options: &Options, mode: Mode, clients: u64, rigs: &mut [Rig]) -> Result<Vec<Row>> {
    let pattern = mode.pattern(clients);
    let mut runs = vec![Vec::new(); rigs.len()];
    for turn in 1..=options.repeat {
        for (rig, runs) in rigs.iter_mut().zip(&mut runs) {
            let run = rig.run(&pattern, options.duration()).await?;
            complain(format_args!(
                "{} {turn}/{}: {} {:.3} µs",
                mode.name(),
                options.repeat,
                rig.target.name(),
                run.cpu.as_secs_f64() * 1e6 / run.deliveries.max(1) as f64,
            ));
            runs.push(run);
        }
    }
    Ok(rigs.iter().zip(&runs).map(|(rig, runs)| Row::of(rig.target, runs)).collect())
}

fn show(report: &mut Report, section: Section) -> Result<()> {
    print(&section)?;
    report.sections.push(section);
    Ok(())
}

/// How much memory connections take that do nothing.
async fn measure_idle(
    options: &Options,
    config: &Config,
    connections: u64,
    report: &mut Report,
) -> Result<()> {
    let mode = Mode::Idle;
    for target in options.targets(mode) {
        complain(format_args!("{}: {connections} clients of {}", mode.name(), target.name()));
        let server = Server::start(target, mode.scenario(), mode.coalesce_ms(), config).await?;
        let bytes_before = resident_bytes(server.pid())?;
        let rig = Rig::connect(target, server, mode.scenario(), connections).await?;
        sleep(Duration::from_secs(1)).await;
        let bytes_after = resident_bytes(rig.server_pid())?;
        report.idle.push(Idle { target, connections, bytes_before, bytes_after });
        rig.stop().await;
    }
    print(format_args!("\n{}, {connections} clients\n\n{}", mode.name(), report.idle_table()))?;
    Ok(())
}
