//! Logging and metrics, set up once per process.

use std::{convert::Infallible, io::IsTerminal, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

/// How the process logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: a level, or directives such as `info,ingest=debug`.
    pub level: String,
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        // What libraries report, our own lines report with what it means; lapin even logs what is
        // expected as errors.
        let level = "info,async_nats=warn,sqlx=warn,lapin=off".to_owned();
        Self { level, format: LogFormat::Text }
    }
}

/// Where `/metrics` come from. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry(PrometheusHandle);

/// Logging or metrics cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level means nothing.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else has set up logging or metrics in this process.
    #[error("telemetry is already set up: {0}")]
    Already(String),
}

/// How often what was measured is sorted into its buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Upper bounds in seconds of histograms whose name ends in `_seconds`.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

impl Telemetry {
    /// Sets up logging to standard error and the metrics recorder of the process.
    pub fn install(config: &LogConfig) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::builder().parse(&config.level)?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            // It would report a standard error that is closed on standard error, and panic.
            .log_internal_errors(false);
        match config.format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().try_init(),
        }
        .map_err(|error| TelemetryError::Already(error.to_string()))?;
        Self::metrics()
    }

    fn metrics() -> Result<Self, TelemetryError> {
        let already = |error: &dyn ToString| TelemetryError::Already(error.to_string());
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .map_err(|error| already(&error))?
            .install_recorder()
            .map(Self)
            .map_err(|error| already(&error))
    }

    /// Sorts what was measured into its buckets from time to time, also where nobody asks for the
    /// metrics: until then each value is kept.
    pub async fn keep_bounded(&self) -> Infallible {
        loop {
            sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }

    /// All metrics of the process in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}
