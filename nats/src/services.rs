//! The services API (ADR-32): `nats service list`, `$SRV.PING`, `$SRV.INFO`, `$SRV.STATS`.

use std::collections::HashMap;

use async_nats::service::{Service, ServiceExt};
use schemas::http::Instance;

use crate::{BrokerError, Nats};

/// An instance that answers `$SRV.*` until it is closed.
pub struct Announcement(Service);

/// Announces an instance in the services API, its address in the metadata.
pub async fn announce(nats: &Nats, instance: &Instance) -> Result<Announcement, BrokerError> {
    let metadata = HashMap::from([
        ("instance".to_owned(), instance.instance.clone()),
        ("address".to_owned(), format!("{}:{}", instance.ip_address, instance.port_number)),
        ("protocol".to_owned(), instance.protocol.clone()),
    ]);
    let service = nats
        .client
        .service_builder()
        .metadata(metadata)
        .start(&instance.service, &instance.version)
        .await
        .map_err(|fault| BrokerError::Unreachable(fault.to_string()))?;
    Ok(Announcement(service))
}

impl Announcement {
    /// Stops answering.
    pub async fn close(self) {
        // An error here means that the connection is gone, and with it the announcement.
        let _ = self.0.stop().await;
    }
}
