//! `/services`: the registry over HTTP.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
};
use jiff::Timestamp;
use schemas::http::{Instance, InstanceAddress, RegisterInstance, ServiceEntry, Services};
use serde_json::{Map, Value};
use service::Problem;
use tracing::{info, warn};

use crate::door::Door;

/// Our own services register themselves. Nobody else may send their traffic somewhere.
const RESERVED: &str = "lizards-";

const PROTOCOLS: [&str; 4] = ["http", "https", "grpc", "tcp"];

/// `GET /services`.
pub(crate) async fn all(State(door): State<Arc<Door>>) -> Json<Services> {
    let mut services: Vec<ServiceEntry> = Vec::new();
    let instances = door.registry.all();
    for group in instances.chunk_by(|one, next| one.service == next.service) {
        services.extend(entry(group));
    }
    Json(Services { services })
}

/// `GET /services/{service}`.
pub(crate) async fn one(
    State(door): State<Arc<Door>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ServiceEntry>, Problem> {
    let Path(service) = path.map_err(unreadable)?;
    entry(&door.registry.instances(&service))
        .map(Json)
        .ok_or_else(|| Problem::not_found(format!("no instance of {service:?} is registered")))
}

/// `POST /services/{service}`: registers an instance for one lease time; posting it again renews
/// the lease.
pub(crate) async fn register(
    State(door): State<Arc<Door>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Instance>, Problem> {
    let Path(service) = path.map_err(unreadable)?;
    let (parts, body) = request.into_parts();
    let body = door.read(&parts.headers, body).await?;
    let posted = parse(&service, &body).map_err(Problem::bad_request)?;
    let known = door.registry.instances(&service);
    let before = known.iter().find(|instance| instance.instance == posted.name);
    let instance = Instance {
        service,
        instance: posted.name,
        ip_address: posted.ip_address,
        port_number: posted.port_number,
        protocol: posted.protocol,
        version: String::new(),
        load: 0,
        registered_at: before.map_or_else(Timestamp::now, |instance| instance.registered_at),
    };
    door.registry.put(&instance).await.map_err(unavailable)?;
    if before.is_none() {
        info!(service = instance.service, instance = instance.instance, "registered");
    }
    Ok(Json(instance))
}

/// `DELETE /services/{service}/{instance}`.
pub(crate) async fn remove(
    State(door): State<Arc<Door>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((service, instance)) = path.map_err(unreadable)?;
    let unknown = || Problem::not_found(format!("{service:?} has no instance {instance:?}"));
    if token("service", &service).is_err() || token("name", &instance).is_err() {
        return Err(unknown());
    }
    if service.starts_with(RESERVED) {
        let known = door.registry.instances(&service);
        if known.iter().any(|known| known.instance == instance) {
            let detail = format!("{service} registers itself: stop the instance instead");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        return Err(unknown());
    }
    if door.registry.remove(&service, &instance).await.map_err(unavailable)? {
        info!(service, instance, "deregistered");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

fn entry(instances: &[Instance]) -> Option<ServiceEntry> {
    let address = |instance: &Instance| InstanceAddress {
        instance: instance.instance.clone(),
        ip_address: instance.ip_address.clone(),
        port_number: instance.port_number,
    };
    Some(ServiceEntry {
        service_name: instances.first()?.service.clone(),
        instance_count: instances.len(),
        registered_at: instances.iter().map(|instance| instance.registered_at).min()?,
        instances: instances.iter().map(address).collect(),
    })
}

fn unreadable(rejection: PathRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

fn unavailable(error: nats::BucketError) -> Problem {
    warn!(%error, "the registry does not answer");
    Problem::unavailable("the registry does not answer; try again soon")
}

/// Reads field by field, so that each fault is named by its field.
fn parse(service: &str, body: &[u8]) -> Result<RegisterInstance, String> {
    const FIELDS: [&str; 4] = ["name", "ip_address", "port_number", "protocol"];
    token("service", service)?;
    if service.starts_with(RESERVED) {
        return Err(format!("service: {service:?} registers itself; choose another name"));
    }
    let object: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| format!("the body must be a JSON object: {error}"))?;
    if let Some(other) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(format!("{other}: there is no such field, only {}", FIELDS.join(", ")));
    }
    let text = |field: &str| match object.get(field) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("{field}: must be a text, not {other}")),
        None => Err(format!("{field}: is missing")),
    };
    let name = text("name")?;
    token("name", name)?;
    let ip_address = text("ip_address")?;
    if ip_address.parse::<IpAddr>().is_err() {
        return Err(format!("ip_address: {ip_address:?} is not an IP address"));
    }
    let port_number = match object.get("port_number") {
        Some(port) => port
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("port_number: must be a number from 1 to 65535, not {port}"))?,
        None => return Err("port_number: is missing".to_owned()),
    };
    let protocol = text("protocol")?.to_ascii_lowercase();
    if !PROTOCOLS.contains(&protocol.as_str()) {
        return Err(format!("protocol: {protocol:?} is none of {}", PROTOCOLS.join(", ")));
    }
    Ok(RegisterInstance {
        name: name.to_owned(),
        ip_address: ip_address.to_owned(),
        port_number,
        protocol,
    })
}

/// What names a service or an instance is one token of a NATS subject.
fn token(field: &str, text: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(is_plain) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(format!("{field}: {shown:?} is not a name: 1 to 64 letters, digits, - and _"))
}
