//! The role `process`: reads provider payloads from `TICKS_RAW` and writes their ticks to `TICKS`
//! and what cannot be used to `TICKS_REJECTED`, each event exactly once and in order.
//!
//! - `decode`: from bytes to events, one pure decoder per payload format.
//! - `validate`: from events to ticks that can be trusted.
//! - `engine`: the loop around them, and the argument why it is exact.
//! - `dry_run`: what would become of a payload, for whoever asks by gRPC or NATS.
//! - `candles`: from ticks to candles; one instance makes them, by a lease.
//! - `alerts`: from ticks to alerts, by the rules that people have set; by a lease, too.
//!
//! Several instances share the symbols: each owns some partitions of them, and one that leaves or
//! dies leaves them to the others.

mod alerts;
mod candles;
mod config;
mod decode;
mod dry_run;
mod engine;
mod leased;
mod metrics;
mod reading;
mod store;
#[cfg(test)]
mod testing;
mod validate;

use std::sync::{Arc, OnceLock};

use jiff::SignedDuration;
use schemas::{HtmlField, HtmlSite, RawTick, Records};
use service::{Context, Health, Protocols, Role, ServeError};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

pub use alerts::AlertsConfig;
pub use candles::CandlesConfig;
pub use config::Config;
pub use validate::{Action, RulesConfig};

use decode::Decoder;
use dry_run::{DryRuns, Grpc, Instances};
use engine::{Engine, Limits};
use reading::Reading;
use validate::{Listings, Rules};

/// The role cannot start, or cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of the configuration has a value that does not work.
    #[error("{key}: {fault}")]
    Config {
        /// The key, as the user writes it.
        key: &'static str,
        /// What is wrong with its value.
        fault: String,
    },
    /// A web page, or records, are configured in a way that does not work.
    #[error("{key}: {fault}")]
    Site {
        /// The key, as the user writes it.
        key: String,
        /// What is wrong with its value.
        fault: String,
    },
    /// What gRPC's reflection describes has a defect.
    #[error("gRPC cannot be served: {0}")]
    Grpc(String),
    /// The engine has a defect.
    #[error("the processing has panicked")]
    Panicked,
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// What other rooms of the configuration say about payloads.
#[derive(Debug, Clone, Default)]
pub struct Payloads {
    /// The web pages whose sources are `html:<name>`.
    pub sites: Vec<HtmlSite>,
    /// How the CSV files and the NDJSON of sources are read.
    pub records: Vec<Records>,
}

/// Finds values of the configuration that do not work.
pub fn check(config: &Config, payloads: &Payloads) -> Result<(), Error> {
    config.validate()?;
    Decoder::new(&config.currency, &payloads.sites, &payloads.records).map(drop)
}

/// What has become of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Events that are ticks.
    pub ticks: usize,
    /// Events that are not.
    pub rejected: usize,
    /// How many bytes the texts of all these take.
    pub bytes: usize,
}

/// Decodes a payload as processing does, with a site whose rows are paragraphs: for the fuzz targets.
pub fn outcome(raw: &RawTick) -> Result<Outcome, Error> {
    /// With its settings; the same for every payload.
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    let decoder = match DECODER.get() {
        Some(decoder) => decoder,
        None => {
            let decoder = fuzzed()?;
            DECODER.get_or_init(|| decoder)
        }
    };
    let mut events = Vec::new();
    decoder.decode(raw, &mut events);
    let ticks = events.iter().filter(|event| event.is_ok()).count();
    let bytes = events.iter().map(decode::text_bytes).sum();
    Ok(Outcome { ticks, rejected: events.len() - ticks, bytes })
}

fn fuzzed() -> Result<Decoder, Error> {
    let field = |attribute: &str, after: &str| {
        let (attribute, after) = (attribute.to_owned(), after.to_owned());
        Some(HtmlField { attribute, after, ..HtmlField::default() })
    };
    let site = HtmlSite {
        name: "fuzz".to_owned(),
        rows: "p".to_owned(),
        symbol: field("id", ""),
        size: field("title", "="),
        currency: "EUR".to_owned(),
        currency_field: field("lang", ""),
        ..HtmlSite::default()
    };
    Decoder::new("USD", &[site], &[])
}

/// Runs the role until shutdown.
pub async fn run(
    config: Config,
    payloads: Payloads,
    context: Context,
    listener: TcpListener,
) -> Result<(), Error> {
    config.validate()?;
    let calendars = config.calendars()?;
    let decoder = Decoder::new(&config.currency, &payloads.sites, &payloads.records)?;
    // A century at most, says the validation.
    let max_future = i64::try_from(config.max_future_secs).unwrap_or(i64::MAX);
    let listings = Listings::default();
    let rules = Rules {
        max_future: SignedDuration::from_secs(max_future),
        calendars: calendars.clone(),
        listings: listings.clone(),
        config: config.rules,
    };
    // The first payload shall meet the lists; without them it is better judged than not at all.
    if let Err(fault) = listings.load(&context.nats).await {
        warn!(%fault, "the lists of symbols cannot be read yet");
    }

    let stop = context.shutdown.child_token();
    let health = Health::default();
    let load = Arc::default();
    let reading = Arc::new(Reading { decoder, rules });
    let others = Instances::new(&context, config.partitions);
    let (dry_runs, questions) =
        DryRuns::new(Arc::clone(&reading), Arc::clone(&context.instance), others);
    let mut grpc =
        Grpc::new(Arc::clone(&dry_runs)).await.map_err(|fault| Error::Grpc(fault.to_string()))?;
    let engine = Engine::new(
        Arc::clone(&context.broker),
        reading,
        questions,
        Limits {
            remembered_ids: config.remembered_ids,
            poison_tries: config.poison_tries,
            drain_deadline: context.shutdown_deadline,
        },
        health.check("pipeline"),
        Arc::clone(&load),
    );
    let candles = candles::run(config.candles, calendars, &context, health.check("candles"), &stop);
    let checks = [health.check("alerts"), health.check("webhooks")];
    let alerts = alerts::run(config.alerts, &context, checks, &stop);
    let role = Role {
        name: "lizards-process",
        listener,
        router: grpc.router.clone(),
        protocols: Protocols::Http1And2,
        endpoints: dry_run::endpoints(dry_runs),
        health,
        load,
    };

    let watched = async {
        context.shutdown.cancelled().await;
        grpc.close().await;
    };
    let serving = async {
        let served = context.serve(role).await;
        stop.cancel();
        served
    };
    // On a worker of the runtime, beside the connections that it talks to without end.
    let engine = tokio::spawn({
        let (context, stop) = (context.clone(), stop.clone());
        async move { engine.run(&context, config.partitions, &stop).await }
    });
    let engine = AbortOnDropHandle::new(engine);
    let following = stop.run_until_cancelled(listings.follow(&context.nats));
    let watched = stop.run_until_cancelled(watched);
    let (served, ended, (), (), _, _) =
        tokio::join!(serving, engine, candles, alerts, following, watched);
    served?;
    ended.map_err(|_| Error::Panicked)
}
