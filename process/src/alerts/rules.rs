//! The rules that are set, followed in their bucket.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use nats::{BucketError, Nats};
use schemas::alert::AlertRule;
use service::Backoff;
use tokio::{sync::watch, time::sleep};
use tracing::warn;

/// All rules, by id.
pub(super) type Rules = BTreeMap<String, Arc<AlertRule>>;

/// The newest state of the bucket; `None` until it was read whole.
pub(super) type RulesReceiver = watch::Receiver<Option<Arc<Rules>>>;

pub(super) fn channel() -> (watch::Sender<Option<Arc<Rules>>>, RulesReceiver) {
    watch::channel(None)
}

/// Follows the bucket for ever.
pub(super) async fn follow(nats: &Nats, rules: watch::Sender<Option<Arc<Rules>>>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        if let Err(fault) = read(nats, &rules, &mut backoff).await {
            warn!(%fault, "the alert rules cannot be followed; trying again");
        }
        sleep(backoff.next_delay()).await;
    }
}

/// Reads the bucket whole after each change: rules are few, and change seldom.
async fn read(
    nats: &Nats,
    rules: &watch::Sender<Option<Arc<Rules>>>,
    backoff: &mut Backoff,
) -> Result<(), BucketError> {
    let bucket = nats.alert_rules().await?;
    let mut changes = bucket.watch().await?;
    loop {
        let mut all = Rules::new();
        for (key, value, _) in bucket.entries().await? {
            match serde_json::from_slice::<AlertRule>(&value) {
                Ok(rule) => {
                    all.insert(rule.id.clone(), Arc::new(rule));
                }
                Err(fault) => warn!(key, %fault, "not an alert rule; passed over"),
            }
        }
        rules.send_replace(Some(Arc::new(all)));
        backoff.reset();
        let Some(change) = changes.next().await else { return Ok(()) };
        change?;
        // What has changed meanwhile is read with it.
        while let Some(Some(change)) = changes.next().now_or_never() {
            change?;
        }
    }
}
