//! The bodies of HTTP requests and answers.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Candle, Symbol, Tick,
    alert::{AlertStatus, Condition, Delivery},
    tick::Utc,
};

/// `GET /sources`: where prices are fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sources {
    /// One URL per source.
    pub sources: Vec<String>,
}

/// `GET /sources/{name}`: how one source is doing, whichever instances fetch it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceStatus {
    /// The name of the source.
    pub name: String,
    /// Where it fetches from.
    pub url: String,
    /// What it is doing; of one with several owners, the worst that any of them does.
    pub state: SourceState,
    /// The symbols that it is to fetch, sorted; empty where they are not chosen here.
    #[serde(default)]
    pub symbols: Vec<Symbol>,
    /// When it last published something, UTC.
    #[schemars(with = "Option<Utc>")]
    pub last_success: Option<Timestamp>,
    /// How long ago the provider last gave something, new or the same as before, in milliseconds.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    /// The last thing that went wrong, in words.
    pub last_error: Option<String>,
    /// When that was, UTC.
    #[schemars(with = "Option<Utc>")]
    pub last_error_at: Option<Timestamp>,
    /// Payloads published since the start of the instances that fetch it.
    pub published: u64,
    /// What was left of the provider's quota after the last request, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaLeft>,
    /// Why the newest setting in the bucket `config` does not hold, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting_error: Option<String>,
    /// The instances that fetch it.
    #[serde(default)]
    pub owners: Vec<SourceOwner>,
}

/// How much of a provider's quota is left, in what it counts: requests, or credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaLeft {
    /// In this minute, where it has a quota for that.
    pub minute: Option<u32>,
    /// In this day, where it has a quota for that.
    pub day: Option<u32>,
}

/// How an instance is doing that fetches a source, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceOwner {
    /// Its name in the registry.
    pub instance: String,
    /// Which slices of the source it fetches: each symbol of a source that is divided is in one of
    /// them, by a hash.
    pub slices: Vec<u16>,
    /// What it is doing.
    pub state: SourceState,
    /// When it last published something, UTC.
    #[schemars(with = "Option<Utc>")]
    pub last_success: Option<Timestamp>,
    /// Payloads that it has published since it started.
    pub published: u64,
}

/// What a source is doing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It is not to be fetched.
    Disabled,
    /// At its end: a file that was played.
    Finished,
    /// Fetching.
    Running,
    /// Connecting, or before its first payload.
    Starting,
    /// No instance fetches it at this moment.
    Standby,
    /// Waiting after a failure.
    BackingOff,
}

/// `POST /ticks/{source}`: what was posted is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Posted {
    /// The message id of the payload.
    pub id: String,
    /// Whether it was stored before: this request has added nothing.
    pub duplicate: bool,
}

/// `POST /session`: where to open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// An address that the caller can reach, with a session token in it where one is needed.
    pub websocket_url: String,
    /// The token by itself, where one is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Until when the token opens connections, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Utc>")]
    pub expires_at: Option<Timestamp>,
}

/// `GET /quotes?symbols=`: the newest ticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quotes {
    /// One per known symbol, in the order asked for.
    pub quotes: Vec<Tick>,
    /// Symbols of the request that no tick is known of.
    pub unknown: Vec<String>,
}

/// `GET /ticks/{symbol}`: a page of stored ticks, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TickPage {
    /// The ticks.
    pub ticks: Vec<Tick>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `GET /candles/{symbol}`: candles, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Candles {
    /// The candles.
    pub candles: Vec<Candle>,
}

/// `GET /symbols`: what is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Symbols {
    /// Sorted.
    pub symbols: Vec<Symbol>,
}

/// `GET /services`: all services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Services {
    /// Sorted by name.
    pub services: Vec<ServiceEntry>,
}

/// `GET /services/{service}`: the live instances of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceEntry {
    /// The name of the service.
    pub service_name: String,
    /// How many instances live.
    pub instance_count: usize,
    /// When its oldest live instance registered, UTC.
    #[schemars(with = "Utc")]
    pub registered_at: Timestamp,
    /// The instances, sorted.
    pub instances: Vec<InstanceAddress>,
}

/// Where an instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceAddress {
    /// The name of the instance, unique within its service.
    pub instance: String,
    /// The address it can be reached at.
    pub ip_address: String,
    /// The port it listens on.
    pub port_number: u16,
}

/// `POST /services/{service}`: registers an instance of a service that does not speak NATS. The
/// registration is a lease: it ends unless it is posted again within its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterInstance {
    /// The name of the instance, unique within its service.
    pub name: String,
    /// The address it can be reached at.
    pub ip_address: String,
    /// The port it listens on.
    pub port_number: u16,
    /// What it speaks there: `http`.
    pub protocol: String,
}

/// The value of a key in the KV bucket `registry`: a live instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// The name of its service: `lizards-provide`.
    pub service: String,
    /// The name of the instance, unique within its service.
    pub instance: String,
    /// The address it can be reached at.
    pub ip_address: String,
    /// The port it listens on.
    pub port_number: u16,
    /// What it speaks there.
    pub protocol: String,
    /// Its version.
    pub version: String,
    /// How busy it is, in units of its own service (for provide: open connections).
    pub load: u64,
    /// When it first registered, UTC.
    #[schemars(with = "Utc")]
    pub registered_at: Timestamp,
}

/// The body of `POST /alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewAlertRule {
    /// When to fire.
    pub condition: Condition,
    /// Where to post alerts to, if anywhere: an address of the public internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
}

/// An alert rule: the answer of `POST /alerts`, and an entry of `GET /alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRuleInfo {
    /// Its id.
    pub id: String,
    /// When it fires.
    pub condition: Condition,
    /// Where its alerts are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// What signs them, as Standard Webhooks has it (`whsec_…`): shown once, when the rule is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// When it was set, UTC.
    #[schemars(with = "Utc")]
    pub created_at: Timestamp,
}

/// `GET /alerts`: the rules, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRules {
    /// All that the caller has set; where API keys are off, all.
    pub alerts: Vec<AlertRuleInfo>,
}

/// `GET /alerts/{id}`: a rule and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRuleDetails {
    /// The rule.
    #[serde(flatten)]
    pub rule: AlertRuleInfo,
    /// How it stood when that was last saved, some seconds ago; `null` until it is judged. Ticks count
    /// from then on.
    pub status: Option<AlertStatus>,
    /// The receiver has answered 410 Gone: nothing is posted to it any more.
    pub webhook_gone: bool,
    /// What became of its newest alerts with its webhook, newest first; at most 20.
    pub deliveries: Vec<Delivery>,
}
