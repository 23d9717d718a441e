//! Telling everybody which symbols there will be, so that clients may subscribe before the first
//! tick.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use nats::{BucketError, Nats};
use schemas::{Symbol, subject};
use service::Backoff;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use crate::settings;

/// The first and the longest wait before trying again, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Adds the symbols to those in the bucket, now and whenever there are more of them; for ever.
pub(crate) async fn announce(nats: &Nats, mut symbols: watch::Receiver<BTreeSet<Symbol>>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let ours = symbols.borrow_and_update().clone();
        match try_announce(nats, &ours).await {
            Ok(true) => {
                info!(symbols = ours.len(), "symbols announced");
                backoff.reset();
                if symbols.changed().await.is_err() {
                    // There will be no more.
                    return;
                }
                continue;
            }
            // Another instance wrote in between: its symbols count too.
            Ok(false) => {}
            Err(error) => warn!(%error, "the symbols cannot be announced; trying again"),
        }
        sleep(backoff.next_delay()).await;
    }
}

/// False where somebody else wrote between our reading and our writing.
async fn try_announce(nats: &Nats, symbols: &BTreeSet<Symbol>) -> Result<bool, BucketError> {
    let bucket = settings::bucket(nats).await?;
    let known = bucket.get(subject::SYMBOLS_KEY).await?;
    let value = known.as_ref().map(|(value, _)| &value[..]);
    let Some(value) = union(value, symbols) else { return Ok(true) };
    let revision = known.map(|(_, revision)| revision);
    Ok(bucket.replace(subject::SYMBOLS_KEY, value, revision).await?.is_some())
}

/// The value with the symbols added, as a sorted JSON array; `None` where it has them all. A value
/// that is no array of symbols counts as empty.
fn union(value: Option<&[u8]>, symbols: &BTreeSet<Symbol>) -> Option<Bytes> {
    let known: BTreeSet<Symbol> =
        value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
    if symbols.is_subset(&known) {
        return None;
    }
    let all: Vec<&Symbol> = known.union(symbols).collect();
    // Strings always become JSON.
    serde_json::to_vec(&all).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_added_and_never_taken_away() {
        let ours = ["MSFT", "BRK.B"].map(|name| Symbol::new(name).unwrap()).into();
        let added = |value: Option<&str>| {
            union(value.map(str::as_bytes), &ours)
                .map(|json| String::from_utf8(json.into()).unwrap())
        };
        assert_eq!(added(None).unwrap(), r#"["BRK.B","MSFT"]"#);
        assert_eq!(added(Some(r#"["AAPL","MSFT"]"#)).unwrap(), r#"["AAPL","BRK.B","MSFT"]"#);
        assert_eq!(added(Some("broken")).unwrap(), r#"["BRK.B","MSFT"]"#);
        assert_eq!(added(Some(r#"["MSFT","BRK.B","A"]"#)), None);
    }
}
