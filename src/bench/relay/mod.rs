//! `lizards bench relay`: what processing costs beside a relay that only passes messages on.
//!
//! Every target reads the same payloads out of `TICKS_RAW` and writes a message of a tick's size for
//! each into `TICKS`, with a nats-server of its own. It stands ready and is halted while the
//! payloads are stored; then it is let go, and the times at which the server stored the first and
//! the last message tell the rate. A target that loses or doubles a message fails the run.

mod bare;
mod delay;
mod report;
mod rig;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    bench::{cores, rates::Row, trades},
    config::Config,
    print::{complain, print},
};
use report::{Delay, Memory, Report, Section};
use rig::Rig;

pub(crate) use bare::{BareOptions, relay};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// What to measure [default: all but memory]
    #[arg(long, value_delimiter = ',', value_name = "WHAT")]
    only: Vec<What>,
    /// A file of trades as `replay` takes it, `.gz` too [default: trades of that shape are made up]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many payloads each time
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    messages: usize,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 3, value_name = "N")]
    repeat: usize,
    /// How long memory is watched, in seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    secs: u64,
    /// Write everything as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// Trades a second: the bare relays, one processor, and two
    Rate,
    /// A bare relay and one processor with 10 and with 20,000 symbols
    Symbols,
    /// The same with a core that only nats-server uses: who then is the limit?
    Apart,
    /// From before a payload is published until its tick is received, at 1,000 a second
    Delay,
    /// The memory of a processor that works for a time
    Memory,
}

/// Who passes messages on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Target {
    /// A future for each publication, an acknowledgement for each payload.
    Futures,
    /// Receipts collected on one inbox, acknowledged up to what is stored.
    Inbox,
    /// So many processors.
    Ours(u16),
}

impl Target {
    pub(super) fn name(self) -> String {
        match self {
            Self::Futures => "bare: futures, explicit acks".to_owned(),
            Self::Inbox => "bare: one inbox, ack-all".to_owned(),
            Self::Ours(1) => "ours, one processor".to_owned(),
            Self::Ours(n) => format!("ours, {n} processors"),
        }
    }
}

/// Measures, and prints each table as soon as it is whole.
pub(crate) async fn run(options: &Options, config: &Config) -> Result<()> {
    ensure!(options.repeat > 0 && options.messages > 1, "this would measure nothing");
    let mut report = Report::default();
    let what = match options.only.as_slice() {
        // Last what moves us from a core, for good.
        [] => &[What::Rate, What::Symbols, What::Delay, What::Apart],
        only => only,
    };
    for what in what {
        match what {
            What::Rate => rate(options, config, &mut report).await?,
            What::Symbols => symbols(options, config, &mut report).await?,
            What::Delay => delays(options, config, &mut report).await?,
            What::Apart => apart(options, config, &mut report).await?,
            What::Memory => memory(options, config, &mut report).await?,
        }
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("--json {}", file.display()))?;
    }
    Ok(())
}

async fn rate(options: &Options, config: &Config, report: &mut Report) -> Result<()> {
    compare(What::Rate, None, options, config, report).await
}

async fn apart(options: &Options, config: &Config, report: &mut Report) -> Result<()> {
    compare(What::Apart, cores::clear_the_last()?, options, config, report).await
}

async fn compare(
    what: What,
    server_core: Option<usize>,
    options: &Options,
    config: &Config,
    report: &mut Report,
) -> Result<()> {
    let rows = trades::read(options.file.as_deref(), options.messages)?;
    let targets = [Target::Futures, Target::Inbox, Target::Ours(1), Target::Ours(2)];
    let rows = in_turn(options, config, server_core, &targets, &[&rows; 4]).await?;
    let section = Section { what, rows };
    print(&section)?;
    report.sections.push(section);
    Ok(())
}

async fn symbols(options: &Options, config: &Config, report: &mut Report) -> Result<()> {
    let (few, many) = (trades::made(options.messages, 10), trades::made(options.messages, 20_000));
    // What more subjects cost the server shows beside a relay to which they are nothing.
    let targets = [Target::Inbox, Target::Inbox, Target::Ours(1), Target::Ours(1)];
    let payloads = [&few, &many, &few, &many];
    let mut rows = in_turn(options, config, None, &targets, &payloads).await?;
    for (row, symbols) in rows.iter_mut().zip(["10", "20,000"].into_iter().cycle()) {
        row.name = format!("{}, {symbols} symbols", row.name);
    }
    let section = Section { what: What::Symbols, rows };
    print(&section)?;
    report.sections.push(section);
    Ok(())
}

/// All targets in turn, several times, each with its payloads.
async fn in_turn(
    options: &Options,
    config: &Config,
    server_core: Option<usize>,
    targets: &[Target],
    payloads: &[&Vec<String>],
) -> Result<Vec<Row>> {
    let mut runs = vec![Vec::new(); targets.len()];
    for turn in 1..=options.repeat {
        for ((target, payloads), runs) in targets.iter().zip(payloads).zip(&mut runs) {
            let rig = Rig::start(*target, config).await?;
            if let Some(core) = server_core {
                rig.move_server_to(core)?;
            }
            let run = rig.measure(payloads).await;
            let run = run.with_context(|| target.name())?;
            let (turns, name) = (options.repeat, target.name());
            complain(format_args!("{turn}/{turns}: {name}: {:.0}/s", run.per_sec));
            runs.push(run);
        }
    }
    Ok(targets.iter().zip(&runs).map(|(target, runs)| Row::of(target.name(), runs)).collect())
}

async fn delays(options: &Options, config: &Config, report: &mut Report) -> Result<()> {
    let payloads = trades::made(options.messages.min(10_000), 4);
    for target in [Target::Inbox, Target::Ours(1)] {
        let rig = Rig::start(target, config).await?;
        let delays = delay::measure(&rig, &payloads).await.with_context(|| target.name())?;
        rig.stop().await;
        report.delays.push(Delay { name: target.name(), delays });
    }
    print(report.delay_table())?;
    Ok(())
}

async fn memory(options: &Options, config: &Config, report: &mut Report) -> Result<()> {
    let payloads = trades::made(options.messages, 1_000);
    let rig = Rig::start(Target::Ours(1), config).await?;
    let published = tokio::spawn(delay::publish_for(
        rig.client.clone(),
        payloads,
        Duration::from_secs(options.secs),
    ));
    let mut resident = Vec::new();
    for _ in 0..20 {
        sleep(Duration::from_secs(options.secs) / 20).await;
        resident.push(rig.resident_bytes()?);
    }
    let messages = published.await??;
    rig.stop().await;
    report.memory = Some(Memory { messages, resident });
    print(report.memory_table())?;
    Ok(())
}
