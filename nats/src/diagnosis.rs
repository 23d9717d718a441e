//! What `lizards doctor` asks a running server.

use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use jiff::Timestamp;
use schemas::subject;

use crate::{
    BrokerError, Nats,
    topology::{Stream, StreamsConfig},
};

impl Nats {
    /// How far the clock here and the server's are apart: the server dates a key that is written,
    /// and half of the round trip is taken off.
    pub async fn clock_skew(&self) -> Result<Duration, BrokerError> {
        let unreachable = |fault: &dyn ToString| BrokerError::Unreachable(fault.to_string());
        self.leases().await.map_err(|fault| unreachable(&fault))?;
        let store: kv::Store = self
            .jetstream
            .get_key_value(subject::LEASES)
            .await
            .map_err(|fault| unreachable(&fault))?;
        let before = Timestamp::now();
        store.put("doctor", Bytes::new()).await.map_err(|fault| unreachable(&fault))?;
        let after = Timestamp::now();
        let entry = store.entry("doctor").await.map_err(|fault| unreachable(&fault))?;
        let created = entry
            .map_or_else(|| before.as_nanosecond(), |entry| entry.created.unix_timestamp_nanos());
        let middle = i128::midpoint(before.as_nanosecond(), after.as_nanosecond());
        let apart = (created - middle).unsigned_abs();
        Ok(Duration::from_nanos(u64::try_from(apart).unwrap_or(u64::MAX)))
    }

    /// Whether the limits of the streams fit into what the account may store.
    pub async fn check_storage(&self, streams: &StreamsConfig) -> Result<(), BrokerError> {
        let account = self
            .jetstream
            .query_account()
            .await
            .map_err(|fault| BrokerError::Unreachable(fault.to_string()))?;
        let wanted = Stream::ALL.iter().map(|stream| streams.limits(*stream).1).sum::<u64>() << 20;
        // Absent or negative: no limit but the disk, which the server checks when a stream is made.
        let allowed = account.limits.max_storage.map(u64::try_from);
        match allowed {
            Some(Ok(allowed)) if wanted > allowed => Err(BrokerError::Refused(format!(
                "the streams may grow to {} MiB together, and the account may store {} MiB; lower \
                 streams.*_max_mib",
                wanted >> 20,
                allowed >> 20
            ))),
            _ => Ok(()),
        }
    }
}
