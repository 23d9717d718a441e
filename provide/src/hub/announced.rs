//! The symbols that sources say they will deliver: key `symbols` of the bucket `config`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::StreamExt;
use nats::{BucketError, Nats};
use schemas::{Symbol, subject};
use service::{Backoff, Check};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Hub;

const DESCRIPTION: &str = "what may change while running";

/// Keeps the hub's announced symbols as they are in the bucket, until shutdown.
pub(crate) async fn follow(hub: Arc<Hub>, nats: Nats, check: Check, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let broken = tokio::select! {
            () = shutdown.cancelled() => return,
            broken = watch(&hub, &nats, &check, &mut backoff) => broken,
        };
        // While it is down the symbols stay as they were.
        let delay = backoff.next_delay();
        match broken {
            Ok(()) => warn!(?delay, "the watch of the announced symbols ended; watching anew"),
            Err(fault) => {
                check.fail(fault.to_string());
                warn!(%fault, ?delay, "the announced symbols cannot be watched; trying again");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

async fn watch(
    hub: &Hub,
    nats: &Nats,
    check: &Check,
    backoff: &mut Backoff,
) -> Result<(), BucketError> {
    let bucket = nats.bucket(subject::CONFIG, DESCRIPTION, None).await?;
    // The watch says nothing where there is no key yet; reading it once says so.
    if let Some((value, _)) = bucket.get(subject::SYMBOLS_KEY).await? {
        announce(hub, &value);
    }
    check.pass();
    let mut changes = bucket.watch().await?;
    while let Some(change) = changes.next().await {
        let change = change?;
        backoff.reset();
        if change.key == subject::SYMBOLS_KEY {
            announce(hub, change.value.as_deref().unwrap_or(b"[]"));
        }
    }
    Ok(())
}

fn announce(hub: &Hub, value: &[u8]) {
    match serde_json::from_slice::<HashSet<Symbol>>(value) {
        Ok(symbols) => hub.announce(symbols),
        Err(fault) => {
            warn!(key = subject::SYMBOLS_KEY, %fault, "not a list of symbols; the last one stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Selector, *};

    #[test]
    fn an_announced_symbol_is_known_and_nonsense_changes_nothing() {
        let hub = Hub::new(1, Duration::ZERO, false);
        let knows = |text| hub.knows(&Selector::parse(text).unwrap());
        assert!(!knows("AAPL"));
        announce(&hub, br#"["AAPL","BRK.B"]"#);
        assert!(knows("AAPL") && knows("BRK.B"));
        announce(&hub, b"AAPL");
        assert!(knows("AAPL"));
        announce(&hub, b"[]");
        assert!(!knows("AAPL"));
    }
}
