//! `lizards dry-run`: what a payload would become, asked of whichever `process` answers.

use std::{
    fs::File,
    io::{self, Read},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use nats::ServiceRequest;
use schemas::{DryRun, Format, Source, Symbol, headers, subject};

use crate::{
    config::Config,
    print::{columns, print},
    streams::Streams,
};

/// Longer than `process` takes.
const PATIENCE: Duration = Duration::from_secs(8);
/// More than `process` reads: it says so itself.
const MAX_BYTES: u64 = 600 * 1024;

const TICKS: [&str; 6] = ["SYMBOL", "PRICE", "SIZE", "KIND", "TS", "FLAGS"];
const REJECTIONS: [&str; 3] = ["EVENT", "REASON", "ERROR"];

/// A payload, and what is known of it.
#[derive(Args)]
pub(crate) struct Payload {
    /// The file that holds it; - is standard input
    #[arg(default_value = "-")]
    file: String,
    /// The source that it is of, such as coinbase
    #[arg(long, value_name = "NAME", value_parser = Source::new)]
    source: Option<Source>,
    /// The decoder that is to read it, as in the header Lizards-Format
    #[arg(long, value_name = "NAME", value_parser = format)]
    format: Option<Format>,
    /// Its media type, such as text/csv
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The symbol that it is about, where it does not say
    #[arg(long, value_parser = Symbol::new)]
    symbol: Option<Symbol>,
    /// When it was received (RFC 3339), if not now
    #[arg(long, value_name = "TIME")]
    received_at: Option<Timestamp>,
    /// The columns of a row of a file, as its header line has them
    #[arg(long)]
    columns: Option<String>,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
}

fn format(name: &str) -> Result<Format, String> {
    Format::from_name(name).ok_or_else(|| {
        let all = Format::ALL.map(Format::as_str).join(", ");
        format!("it is none of {all}")
    })
}

/// Asks, and prints the answer; fails where something would be rejected.
pub(crate) async fn run(config: &Config, payload: &Payload) -> Result<ExitCode> {
    let request = payload.request()?;
    let nats = Streams::connect(config).await?.nats;
    let answer = nats.request(subject::DRY_RUN, request, PATIENCE).await?;
    let run: DryRun = serde_json::from_slice(&answer)?;
    if payload.json {
        print(format_args!("{}\n", serde_json::to_string_pretty(&run)?))?;
    } else {
        print(text(&run))?;
    }
    Ok(if run.rejection_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Payload {
    fn request(&self) -> Result<ServiceRequest> {
        let mut body = Vec::new();
        match self.file.as_str() {
            "-" => io::stdin().lock().take(MAX_BYTES).read_to_end(&mut body),
            file => File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut body)),
        }
        .with_context(|| format!("{} cannot be read", self.file))?;
        let headers = [
            (headers::SOURCE, self.source.as_ref().map(ToString::to_string)),
            (headers::FORMAT, self.format.map(|format| format.as_str().to_owned())),
            (headers::CONTENT_TYPE, self.content_type.clone()),
            (headers::SYMBOL, self.symbol.as_ref().map(ToString::to_string)),
            (headers::RECEIVED_AT, self.received_at.map(|time| time.to_string())),
            (headers::COLUMNS, self.columns.clone()),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(ServiceRequest { headers: headers.collect(), body: body.into() })
    }
}

/// The answer for a person.
fn text(run: &DryRun) -> String {
    let DryRun { source, format, tick_count, rejection_count, .. } = run;
    let status = run.status.as_str();
    let events = tick_count + rejection_count;
    let mut text = format!(
        "{status}: {tick_count} of {events} would be ticks; read as {format} of {source}\n"
    );
    if let Some(not_asked) = &run.not_asked {
        let (rules, why) = (not_asked.rules.join(", "), &not_asked.why);
        let symbols: Vec<_> = not_asked.symbols.iter().map(Symbol::as_str).collect();
        text += &format!("not asked: {rules} for {}: {why}\n", symbols.join(", "));
    }
    if !run.ticks.is_empty() {
        let rows = run.ticks.iter().map(|tick| {
            let size = tick.size.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            let flags: Vec<_> = tick.flags.iter().map(|flag| flag.as_str()).collect();
            let (symbol, price) = (tick.symbol.to_string(), tick.price.to_string());
            let kind = tick.kind.as_str().to_owned();
            [symbol, price, size, kind, tick.ts.to_string(), flags.join(" ")]
        });
        text += &columns(TICKS, rows);
    }
    if !run.rejections.is_empty() {
        let rows = run.rejections.iter().map(|rejection| {
            [rejection.event.to_string(), rejection.reason.clone(), rejection.error.clone()]
        });
        text += &columns(REJECTIONS, rows);
    }
    if run.left_out > 0 {
        text += &format!("and {} that are too long to show\n", run.left_out);
    }
    text
}
