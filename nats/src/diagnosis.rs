//! What `lizards doctor` asks a running server. It changes none of what the pipeline has there.

use std::time::Duration;

use async_nats::jetstream::{context::GetStreamErrorKind, stream};
use jiff::Timestamp;

use crate::{
    BrokerError, Nats,
    topology::{Stream, StreamsConfig},
};

/// The stream that is made and deleted to find out what the server would say.
const PROBE: &str = "LIZARDS_DOCTOR";

impl Nats {
    /// Asks the server to reserve what the streams may still grow by, for a moment, and gives how
    /// far its clock and ours are apart at least. `streams` is nothing where others carry them.
    pub async fn probe(&self, streams: Option<&StreamsConfig>) -> Result<Duration, BrokerError> {
        let wanted = match streams {
            Some(streams) => self.wanted(streams).await?,
            None => 0,
        };
        // Left by a doctor that was killed.
        let _ = self.jetstream.delete_stream(PROBE).await;
        let before = Timestamp::now();
        let made = self
            .jetstream
            .create_stream(stream::Config {
                name: PROBE.to_owned(),
                subjects: vec!["lizards.doctor".to_owned()],
                max_bytes: i64::try_from(wanted.max(1 << 20)).unwrap_or(i64::MAX),
                num_replicas: self.replicas,
                ..stream::Config::default()
            })
            .await;
        let after = Timestamp::now();
        let made = made.map_err(|fault| {
            BrokerError::Refused(format!(
                "the streams may need {} MiB more: {fault} (their limits are streams.* in the \
                 configuration)",
                wanted >> 20
            ))
        })?;
        let created = made.cached_info().created.unix_timestamp_nanos();
        self.jetstream.delete_stream(PROBE).await.map_err(unreachable)?;
        let created = Timestamp::from_nanosecond(created).map_err(unreachable)?;
        Ok(apart(before, created, after))
    }

    /// How many bytes the configured streams may take beyond what is reserved for them already.
    async fn wanted(&self, streams: &StreamsConfig) -> Result<u64, BrokerError> {
        let mut wanted = 0_u64;
        for stream in Stream::ALL {
            let limit = streams.limits(stream).1 << 20;
            let reserved = match self.jetstream.get_stream(stream.name()).await {
                Ok(found) => u64::try_from(found.cached_info().config.max_bytes).unwrap_or(0),
                Err(fault) if is_absent(&fault) => 0,
                Err(fault) => return Err(unreachable(fault)),
            };
            wanted = wanted.saturating_add(limit.saturating_sub(reserved));
        }
        Ok(wanted)
    }
}

fn is_absent(fault: &async_nats::jetstream::context::GetStreamError) -> bool {
    matches!(fault.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND)
}

fn unreachable(fault: impl ToString) -> BrokerError {
    BrokerError::Unreachable(fault.to_string())
}

/// How far another clock is apart from ours at least, when it showed `there` at some moment between
/// `before` and `after` here.
fn apart(before: Timestamp, there: Timestamp, after: Timestamp) -> Duration {
    let behind = before.duration_since(there);
    let ahead = there.duration_since(after);
    Duration::try_from(behind.max(ahead)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_apart_by_what_the_round_trip_does_not_explain() {
        let at = |ms: i64| Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap();
        for (there, apart_ms) in [(-1_500, 1_500), (-1, 1), (0, 0), (7, 0), (10, 0), (2_010, 2_000)]
        {
            let found = apart(at(0), at(there), at(10));
            assert_eq!(found, Duration::from_millis(apart_ms), "{there}");
        }
    }
}
