//! One session of delivering: from the saved place to the first error.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nats::{BrokerError, Message, Reader, Start, topology::Stream};
use schemas::alert::{Alert, AlertRule, Deliveries, StoredWebhook};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    super::rules::{Rules, RulesReceiver},
    Deliverer,
    line::{Line, Parcel, Queue},
};
use crate::store::StoreFault;

/// The key of the sequence of `ALERTS` that everything is done with up to; no id of a rule is this.
const POSITION: &str = "position";
/// How often the place is saved while it moves.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the deliveries cannot be loaded or saved: {0}")]
    Store(#[from] StoreFault),
    #[error("another session has saved its deliveries")]
    TakenOver,
    #[error("the rules are followed no more")]
    Unfollowed,
    #[error("a delivery has panicked")]
    Panicked,
}

/// A line at work.
struct AtWork {
    queue: Arc<Queue>,
    stop: CancellationToken,
}

pub(super) struct Session<'a> {
    deliverer: &'a Deliverer,
    rules: RulesReceiver,
    /// Cancelled when everything stops; the lines stop with it.
    stop: CancellationToken,
    reader: Box<dyn Reader>,
    /// What is saved of rules without a line.
    saved: HashMap<String, (Deliveries, u64)>,
    lines: HashMap<String, AtWork>,
    tasks: JoinSet<Result<(), Fault>>,
    /// The last sequence of `ALERTS` that was read.
    read: u64,
    position: u64,
    position_revision: Option<u64>,
}

impl<'a> Session<'a> {
    /// Finds out where earlier sessions have ended.
    pub(super) async fn open(
        deliverer: &'a Deliverer,
        mut rules: RulesReceiver,
        stop: &CancellationToken,
    ) -> Result<Self, Fault> {
        if rules.wait_for(Option::is_some).await.is_err() {
            return Err(Fault::Unfollowed);
        }
        let (mut saved, mut position, mut position_revision) = (HashMap::new(), 0, None);
        for (key, value, revision) in deliverer.store.load().await? {
            if key == POSITION {
                position = serde_json::from_slice(&value).map_err(StoreFault::from)?;
                position_revision = Some(revision);
            } else {
                let deliveries: Deliveries =
                    serde_json::from_slice(&value).map_err(StoreFault::from)?;
                saved.insert(key, (deliveries, revision));
            }
        }
        if deliverer.broker.state(Stream::Alerts).await?.last_sequence < position {
            warn!("ALERTS was made anew; what is in it is delivered");
            position = 0;
            saved.values_mut().for_each(|(deliveries, _)| deliveries.done_through = 0);
        }
        let start = Start::Sequence(position + 1);
        let reader = deliverer.broker.reader(Stream::Alerts, &[], start).await?;
        let mut session = Self {
            deliverer,
            rules,
            stop: stop.child_token(),
            reader,
            saved,
            lines: HashMap::new(),
            tasks: JoinSet::new(),
            read: position,
            position,
            position_revision,
        };
        session.forget().await?;
        Ok(session)
    }

    /// Works until told to stop, or until the first error.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<(), Fault> {
        let mut save_at = Instant::now() + SAVE_EVERY;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.end().await,
                Some(ended) = self.tasks.join_next() => ended.map_err(|_| Fault::Panicked)??,
                changed = self.rules.changed() => {
                    changed.map_err(|_| Fault::Unfollowed)?;
                    self.forget().await?;
                }
                () = sleep_until(save_at) => {
                    self.save().await?;
                    save_at = Instant::now() + SAVE_EVERY;
                }
                message = self.reader.next() => self.take(&message?).await?,
            }
        }
    }

    /// Hands an alert to the line of its rule.
    async fn take(&mut self, message: &Message) -> Result<(), Fault> {
        self.read = message.sequence;
        let alert: Alert = match serde_json::from_slice(&message.body) {
            Ok(alert) => alert,
            Err(fault) => {
                error!(sequence = message.sequence, %fault, "a message of ALERTS is no alert");
                return Ok(());
            }
        };
        let Some(webhook) = self.webhook(&alert.rule).await? else { return Ok(()) };
        let done = self.saved.get(&alert.rule).map_or(0, |(deliveries, _)| deliveries.done_through);
        if !self.lines.contains_key(&alert.rule) && message.sequence <= done {
            return Ok(());
        }
        let rule = alert.rule.clone();
        self.line(&rule, &message.subject, webhook).push(Parcel::new(alert, message.sequence));
        Ok(())
    }

    /// Where the alerts of a rule go, if anywhere.
    async fn webhook(&mut self, id: &str) -> Result<Option<StoredWebhook>, Fault> {
        let followed = self.rules.borrow().as_ref().and_then(|rules| rules.get(id).cloned());
        if let Some(rule) = followed {
            return Ok(rule.webhook.clone());
        }
        // It was set a moment ago, or is deleted.
        let Some(value) = self.deliverer.rules.get(id).await? else { return Ok(None) };
        let rule: AlertRule = serde_json::from_slice(&value).map_err(StoreFault::from)?;
        Ok(rule.webhook)
    }

    /// The queue of a rule, whose line begins now where it had none.
    fn line(&mut self, rule: &str, subject: &str, webhook: StoredWebhook) -> &Queue {
        let Self { deliverer, lines, saved, tasks, stop, .. } = self;
        match lines.entry(rule.to_owned()) {
            Entry::Occupied(known) => &known.into_mut().queue,
            Entry::Vacant(new) => {
                let (deliveries, revision) = match saved.remove(rule) {
                    Some((deliveries, revision)) => (deliveries, Some(revision)),
                    None => (Deliveries::default(), None),
                };
                let queue = Arc::<Queue>::default();
                let stop = stop.child_token();
                let line = Line {
                    rule: rule.to_owned(),
                    webhook,
                    subject: subject.to_owned(),
                    queue: Arc::clone(&queue),
                    deliveries,
                    revision,
                    broker: Arc::clone(&deliverer.broker),
                    store: Arc::clone(&deliverer.store),
                    poster: Arc::clone(&deliverer.poster),
                    config: deliverer.config.clone(),
                    stop: stop.clone(),
                };
                tasks.spawn(line.run());
                &new.insert(AtWork { queue, stop }).queue
            }
        }
    }

    /// Drops what is known of rules that are there no more.
    async fn forget(&mut self) -> Result<(), Fault> {
        let rules: Arc<Rules> = self.rules.borrow_and_update().clone().unwrap_or_default();
        self.lines.retain(|rule, line| {
            let stays = rules.contains_key(rule);
            if !stays {
                line.stop.cancel();
            }
            stays
        });
        let gone: Vec<_> =
            self.saved.keys().filter(|rule| !rules.contains_key(*rule)).cloned().collect();
        for rule in gone {
            if let Some((_, revision)) = self.saved.remove(&rule) {
                self.deliverer.store.delete(&rule, revision).await?;
            }
        }
        Ok(())
    }

    /// Saves up to where everything is done with.
    async fn save(&mut self) -> Result<(), Fault> {
        let oldest = self.lines.values().filter_map(|line| line.queue.oldest()).min();
        let position = oldest.map_or(self.read, |oldest| oldest - 1);
        if position > self.position {
            let value = Bytes::from(position.to_string());
            let saved = self.deliverer.store.save(POSITION, value, self.position_revision).await?;
            self.position_revision = Some(saved.ok_or(Fault::TakenOver)?);
            self.position = position;
        }
        Ok(())
    }

    /// Lets attempts that are on their way end, as far as the deadline lets them.
    async fn end(mut self) -> Result<(), Fault> {
        self.stop.cancel();
        let deadline = self.deliverer.drain_deadline;
        let ending = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.map_err(|_| Fault::Panicked)??;
            }
            self.save().await
        };
        match timeout(deadline, ending).await {
            Ok(ended) => ended,
            Err(_) => {
                warn!("webhooks did not answer before the deadline; they are posted again");
                Ok(())
            }
        }
    }
}
