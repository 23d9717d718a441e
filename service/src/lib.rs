//! What every role needs to be a service, and nothing else: the shared handles ([`Context`]),
//! HTTP serving with health and metrics, problem details, logging and metrics set-up, and requests to
//! addresses that others choose ([`outbound`]).

mod context;
mod health;
pub mod outbound;
mod problem;
mod retry;
mod serve;
mod telemetry;

pub use context::{Context, Role, ServeError, ServiceConfig};
pub use health::{Check, Health};
pub use problem::Problem;
pub use retry::Backoff;
pub use serve::{Protocols, serve};
pub use telemetry::{LogConfig, LogFormat, Telemetry, TelemetryError};
