//! What was changed of the sources while they run: the keys `sources.<name>` of the bucket `config`.
//!
//! Every instance follows them, so a change holds everywhere within a moment, and after a restart.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use nats::{Bucket, BucketError, Nats};
use schemas::{Source as Name, SourceSetting, subject};
use service::Backoff;
use tokio::{sync::watch, time::sleep};
use tracing::warn;

/// The first and the longest wait before the bucket is watched again, before jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What was set of a source, or what is wrong with what was.
pub(crate) type Setting = Result<SourceSetting, String>;

/// All that is set; nothing before it was read for the first time.
pub(crate) type Settings = Option<BTreeMap<Name, Setting>>;

/// The bucket of what may change while running.
pub(crate) async fn bucket(nats: &Nats) -> Result<Bucket, BucketError> {
    nats.bucket(subject::CONFIG, "what may change while running", None).await
}

/// Tells what is set, now and whenever it changes; for ever.
pub(crate) async fn follow(nats: &Nats, told: &watch::Sender<Settings>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        match try_follow(nats, told, &mut backoff).await {
            Ok(()) => warn!("the watch of the bucket config has ended; watching again"),
            Err(error) => warn!(%error, "the settings of the sources are not known; trying again"),
        }
        sleep(backoff.next_delay()).await;
    }
}

async fn try_follow(
    nats: &Nats,
    told: &watch::Sender<Settings>,
    backoff: &mut Backoff,
) -> Result<(), BucketError> {
    let bucket = bucket(nats).await?;
    // Watched before it is read, so that no change falls between the two.
    let mut changes = bucket.watch().await?;
    let entries = bucket.entries().await?;
    let read_at = entries.iter().map(|(.., revision)| *revision).max().unwrap_or(0);
    let read = entries.iter().filter_map(|(key, value, _)| Some((name(key)?, parse(value))));
    told.send_replace(Some(read.collect()));
    backoff.reset();
    while let Some(change) = changes.next().await {
        let change = change?;
        if change.revision <= read_at {
            continue;
        }
        let Some(name) = name(&change.key) else { continue };
        told.send_modify(|settings| {
            let settings = settings.get_or_insert_default();
            match &change.value {
                Some(value) => settings.insert(name, parse(value)),
                None => settings.remove(&name),
            };
        });
    }
    Ok(())
}

/// The source that a key is about; other keys are somebody else's.
fn name(key: &str) -> Option<Name> {
    subject::source_of_setting(key)
}

/// Reads a setting; what is wrong with it is for whoever wrote it.
pub(crate) fn parse(value: &Bytes) -> Setting {
    serde_json::from_slice(value).map_err(|fault| format!("it is no setting of a source: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_says_what_is_wrong_with_it() {
        let parse = |json: &'static str| parse(&Bytes::from_static(json.as_bytes()));
        let good = parse(r#"{"enabled":true,"symbols":["AAPL"]}"#).unwrap();
        assert_eq!((good.enabled, good.symbols.unwrap().len()), (Some(true), 1));
        assert_eq!(parse("{}"), Ok(SourceSetting::default()));
        for (json, word) in [
            (r#"{"enabled":"yes"}"#, "boolean"),
            (r#"{"url":"http://x"}"#, "url"),
            (r#"{"symbols":["A\u0000"]}"#, "symbol"),
            ("AAPL", "expected"),
        ] {
            let fault = parse(json).unwrap_err();
            assert!(fault.contains(word), "{fault}");
        }
    }
}
