//! `/alerts`: the rules over HTTP, for whoever may set them.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use nats::{BucketError, Nats};
use ring::rand::{SecureRandom, SystemRandom};
use schemas::{
    alert::{
        AlertRule, AlertStatus, Condition, Deliveries, Secret, StoredWebhook, WebhookUrl, is_public,
    },
    http::{AlertRuleDetails, AlertRuleInfo, AlertRules},
};
use serde_json::{Map, Value};
use service::Problem;
use tracing::{error, info, warn};

use super::AlertLimits;
use crate::{
    access::{Access, Permit},
    hub::Selector,
};

/// The largest body, in bytes: a condition and an address, escaped.
const MAX_BODY: usize = 16 * 1024;

/// How long a secret is, in bytes; Standard Webhooks wants 24 to 64.
const SECRET_BYTES: usize = 24;

/// Where rules and what is known of them are kept.
#[async_trait]
pub(crate) trait Rules: Send + Sync {
    /// All rules.
    async fn all(&self) -> Result<Vec<AlertRule>, BucketError>;
    /// The rule of that id.
    async fn get(&self, id: &str) -> Result<Option<AlertRule>, BucketError>;
    /// Keeps a rule whose id is new.
    async fn insert(&self, rule: &AlertRule) -> Result<(), BucketError>;
    /// Forgets a rule.
    async fn remove(&self, id: &str) -> Result<(), BucketError>;
    /// How a rule stands, and what became of its alerts.
    async fn status(&self, id: &str) -> Result<(Option<AlertStatus>, Deliveries), BucketError>;
}

#[async_trait]
impl Rules for Nats {
    async fn all(&self) -> Result<Vec<AlertRule>, BucketError> {
        let entries = self.alert_rules().await?.entries().await?;
        Ok(entries.iter().filter_map(|(key, value, _)| read(key, value)).collect())
    }

    async fn get(&self, id: &str) -> Result<Option<AlertRule>, BucketError> {
        let value = self.alert_rules().await?.get(id).await?;
        Ok(value.and_then(|(value, _)| read(id, &value)))
    }

    async fn insert(&self, rule: &AlertRule) -> Result<(), BucketError> {
        // Texts and numbers are JSON.
        let value = serde_json::to_vec(rule).unwrap_or_default();
        self.alert_rules().await?.create(&rule.id, value.into()).await.map(drop)
    }

    async fn remove(&self, id: &str) -> Result<(), BucketError> {
        self.alert_rules().await?.delete(id, None).await
    }

    async fn status(&self, id: &str) -> Result<(Option<AlertStatus>, Deliveries), BucketError> {
        let key = format!("rule.{id}");
        let status = self.alert_state().await?.get(&key).await?;
        let deliveries = self.alert_deliveries().await?.get(id).await?;
        let status = status.and_then(|(value, _)| read(&key, &value));
        Ok((status, deliveries.and_then(|(value, _)| read(id, &value)).unwrap_or_default()))
    }
}

fn read<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|fault| warn!(key, %fault, "what is kept of an alert rule cannot be read"))
        .ok()
}

struct Desk {
    rules: Arc<dyn Rules>,
    access: Arc<Access>,
    limits: AlertLimits,
}

/// `POST /alerts`, `GET /alerts`, `GET /alerts/{id}` and `DELETE /alerts/{id}`.
pub(crate) fn router(rules: Arc<dyn Rules>, access: Arc<Access>, limits: AlertLimits) -> Router {
    Router::new()
        .route("/alerts", get(list).post(set))
        .route("/alerts/{id}", get(show).delete(remove))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Desk { rules, access, limits }))
}

async fn set(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let permit = desk.access.holder(&headers)?;
    let asked = Asked::parse(&body).map_err(Problem::bad_request)?;
    let symbol = &asked.condition.symbol;
    if !permit.allows(&Selector::Symbol(symbol.clone())) {
        let detail = format!("condition: the API key does not allow {symbol}");
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let address = asked.webhook.as_ref().and_then(WebhookUrl::ip);
    if !desk.limits.allow_private_webhooks && address.is_some_and(|it| !is_public(it)) {
        let detail = "webhook_url: it is not an address of the public internet";
        return Err(Problem::bad_request(detail));
    }
    let known = desk.rules.all().await.map_err(unavailable)?.len();
    if known >= desk.limits.max_rules {
        let detail =
            format!("there are {known} rules already; delete one (process.alerts.max_rules)");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let webhook = match asked.webhook {
        Some(url) => {
            let secret = format!("whsec_{}", BASE64_STANDARD.encode(random::<SECRET_BYTES>()?));
            Some(StoredWebhook { url, secret: Secret::new(secret) })
        }
        None => None,
    };
    let id: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let owner = permit.holder().map(str::to_owned);
    let created_at = Timestamp::now();
    let rule = AlertRule { id, condition: asked.condition, webhook, owner, created_at };
    desk.rules.insert(&rule).await.map_err(unavailable)?;
    info!(rule = rule.id, condition = %rule.condition, "an alert rule was set");
    let location = format!("/alerts/{}", rule.id);
    let secret = rule.webhook.as_ref().map(|webhook| webhook.secret.expose().to_owned());
    let answer = AlertRuleInfo { webhook_secret: secret, ..info_of(rule) };
    let headers = [(header::LOCATION, location.as_str()), (header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, Json(answer)).into_response())
}

async fn list(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
) -> Result<Json<AlertRules>, Problem> {
    let permit = desk.access.holder(&headers)?;
    let mut rules = desk.rules.all().await.map_err(unavailable)?;
    rules.retain(|rule| permit.owns(rule.owner.as_deref()));
    rules.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(Json(AlertRules { alerts: rules.into_iter().map(info_of).collect() }))
}

async fn show(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<AlertRuleDetails>, Problem> {
    let permit = desk.access.holder(&headers)?;
    let rule = desk.find(&id, &permit).await?;
    let (status, deliveries) = desk.rules.status(&id).await.map_err(unavailable)?;
    Ok(Json(AlertRuleDetails {
        rule: info_of(rule),
        status,
        webhook_gone: deliveries.gone,
        deliveries: deliveries.newest,
    }))
}

async fn remove(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let permit = desk.access.holder(&headers)?;
    desk.find(&id, &permit).await?;
    desk.rules.remove(&id).await.map_err(unavailable)?;
    info!(rule = id, "an alert rule was deleted");
    Ok(StatusCode::NO_CONTENT)
}

impl Desk {
    /// The rule of that id, where it is the caller's. What is another's is not told to be there.
    async fn find(&self, id: &str, permit: &Permit) -> Result<AlertRule, Problem> {
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let rule = if is_id { self.rules.get(id).await.map_err(unavailable)? } else { None };
        rule.filter(|rule| permit.owns(rule.owner.as_deref()))
            .ok_or_else(|| Problem::not_found(format!("there is no alert rule {id:?}")))
    }
}

/// What is asked for, read field by field, so that each fault is named by its field.
struct Asked {
    condition: Condition,
    webhook: Option<WebhookUrl>,
}

impl Asked {
    fn parse(body: &[u8]) -> Result<Self, String> {
        const FIELDS: [&str; 2] = ["condition", "webhook_url"];
        let object: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|fault| format!("the body must be a JSON object: {fault}"))?;
        if let Some(other) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(format!("{other}: there is no such field, only {}", FIELDS.join(", ")));
        }
        let text = |field: &str| match object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(format!("{field}: must be a text, not {other}")),
        };
        let condition = text("condition")?.ok_or("condition: is missing")?;
        let condition = condition.parse().map_err(|fault| format!("condition: {fault}"))?;
        let webhook = text("webhook_url")?.map(WebhookUrl::parse).transpose();
        Ok(Self { condition, webhook: webhook.map_err(|fault| format!("webhook_url: {fault}"))? })
    }
}

/// What is shown of a rule at any time: not its secret.
fn info_of(rule: AlertRule) -> AlertRuleInfo {
    AlertRuleInfo {
        id: rule.id,
        condition: rule.condition,
        webhook_url: rule.webhook.map(|webhook| webhook.url.into()),
        webhook_secret: None,
        created_at: rule.created_at,
    }
}

/// Bytes that nobody can guess.
fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Problem> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        error!("the system gives no random numbers");
        Problem::unavailable("the system gives no random numbers")
    })?;
    Ok(bytes)
}

fn unavailable(fault: BucketError) -> Problem {
    warn!(%fault, "the alert rules cannot be read or written");
    Problem::unavailable("the alert rules cannot be read or written now; try again soon")
}
