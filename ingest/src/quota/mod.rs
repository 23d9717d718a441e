//! The quota of an account with a provider, whoever takes of it: all symbols of a source, all
//! instances that share it, and those that were killed.
//!
//! What was taken is kept for all of them in the bucket `quotas` ([`record`], [`store`]). An instance
//! takes only what it has reserved there for itself: it looks ahead, saves over the revision that it
//! knows what it took since and how much it is about to take, and only then takes it ([`book`]). So
//! what a killed one had reserved and not taken counts as taken, and never more is taken than is known.
//! The record is written once a second at most, and only while something is taken; no request waits
//! for that, unless one is due that nobody could foresee.
//!
//! Each instance keeps to its share of the quota, which is that of its symbols ([`share`]): that is for
//! fairness, and while NATS is there no safety rests on it.
//!
//! **While NATS is away** an instance takes what it has reserved, and of what was left when it last read
//! the record its share: all together take no more than was left, but for what another took since then,
//! a second before at most. Only where its share of a minute is too small for any request it takes one
//! all the same, as seldom as that share says. What it takes is saved when NATS is back, and where others
//! have a share nothing more is reserved until they had the time to do so, too.
//!
//! Times are those of the instances' clocks, which have to agree as well as a provider's and ours.

mod book;
mod record;
mod share;
mod store;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::pending,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use nats::BrokerError;
use schemas::{Source, http::QuotaLeft};
use sha2::{Digest, Sha256};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use self::{
    book::{Book, Draft},
    record::{Limits, Span},
    share::Share,
};
pub(crate) use store::{QuotaBucket, QuotaStore};

/// What is due within this time is to be reserved.
pub(crate) const AHEAD: Duration = Duration::from_secs(3);

/// How often the record is written at most.
const PACE: Duration = Duration::from_secs(1);

/// How often the record is read at least: where others have a share, once a second, so that what they
/// have taken is known when NATS goes.
const REFRESH: Duration = Duration::from_secs(5);
const REFRESH_SHARED: Duration = PACE;

/// How long a reservation holds, and how long it holds still when it is renewed.
const RESERVED_MS: i64 = 15_000;
const RENEW_MS: i64 = 9_000;

/// How long after NATS was away all who have a share have saved what they took meanwhile.
const ALL_SAVED_AFTER: Duration = Duration::from_secs(15);

/// How long the record may take to be read or written.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// How often it is tried again at once when others write the record, too.
const ATTEMPTS: usize = 5;

/// The quota of an account. It outlives a session.
pub(crate) struct Account {
    name: Option<String>,
    is_limited: bool,
    state: Mutex<State>,
    store: OnceLock<Box<dyn QuotaStore>>,
    /// More may be taken now, or it is to be looked again.
    changed: Notify,
    /// Something was taken, or more is wanted.
    wanted: Notify,
}

struct State {
    share: Share,
    /// What the next requests take, in their order.
    wishes: Vec<u32>,
    book: Book,
    /// The record cannot be read or written.
    is_away: bool,
    /// Others may not have saved yet what they took while NATS was away.
    incomplete_until: Option<Instant>,
}

impl Account {
    /// So many requests in any minute and in any day, however they are laid: providers count in windows
    /// of their own. 0 is no limit. The key is that of the account, if it has one.
    pub(crate) fn new(per_minute: u32, per_day: u32, key: &str) -> Self {
        // Enough to tell keys apart, and too little to find one.
        let digest = (!key.is_empty()).then(|| Sha256::digest(key));
        let name = digest.map(|digest| digest.iter().take(4).map(|b| format!("{b:02x}")).collect());
        let share = Share::new(per_minute, per_day);
        let book = Book::new(Limits { minute: per_minute, day: per_day });
        Self {
            name,
            is_limited: per_minute > 0 || per_day > 0,
            state: Mutex::new(State {
                share,
                wishes: Vec::new(),
                book,
                is_away: false,
                incomplete_until: None,
            }),
            store: OnceLock::new(),
            changed: Notify::new(),
            wanted: Notify::new(),
        }
    }

    /// What tells it from another account of the same provider.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// From now on what is taken is kept there, if there is a limit; until then only here.
    pub(crate) fn keep_in(&self, store: Box<dyn QuotaStore>) {
        if self.is_limited {
            let _ = self.store.set(store);
        }
    }

    /// Others may have taken of it since: nothing is taken before that is known.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        state.book.close();
        state.is_away = false;
    }

    /// Of so many symbols that it is for, so many are ours. A request takes `largest` at most.
    pub(crate) fn share(&self, part: (usize, usize), largest: u32) {
        self.state().share.set(part, largest);
    }

    /// What the requests take that are due within [`AHEAD`], in their order.
    pub(crate) fn want(&self, costs: impl Iterator<Item = u32>, now: Instant) {
        if self.store.get().is_none() {
            return;
        }
        let mut state = self.state();
        let (room, mut sum) = (state.share.left_at(now + AHEAD), 0_u32);
        let wishes: Vec<u32> = costs
            .take_while(|cost| {
                sum = sum.saturating_add(*cost);
                sum <= room
            })
            .collect();
        let is_more = wishes.iter().sum::<u32>() > state.book.reserved();
        if is_more && state.wishes != wishes {
            self.wanted.notify_one();
        }
        state.wishes = wishes;
    }

    /// When so much may be taken, if nothing else is before; `None`: not before something
    /// [changes](Self::changed).
    pub(crate) fn free_at(&self, cost: u32, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let fair = state.share.free_at(cost, now);
        let Some(store) = self.store.get() else { return Some(fair) };
        if !state.book.is_open() {
            return None;
        }
        if fair > now || state.book.has(cost, store.now_ms()) {
            return Some(fair);
        }
        let State { share, book, is_away, .. } = &*state;
        let part = |left| share.part(left);
        is_away.then(|| match book.may_take_alone(cost, part, store.now_ms()) {
            true => now,
            false => now + PACE,
        })
    }

    /// Takes so much, if it may be taken now.
    pub(crate) fn take(&self, cost: u32, now: Instant) -> bool {
        if self.free_at(cost, now).is_none_or(|at| at > now) {
            return false;
        }
        let mut state = self.state();
        state.share.take(cost, now);
        if let Some(store) = self.store.get() {
            state.book.take(cost, store.now_ms());
            self.wanted.notify_one();
        }
        true
    }

    /// Returns when it is to be asked again what may be taken. Only one may wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is left of our share.
    pub(crate) fn left(&self, now: Instant) -> QuotaLeft {
        let state = self.state();
        let left = state.share.left(now);
        let Some(store) = self.store.get() else { return left };
        let of_all = |span| {
            let left = state.book.left(span, store.now_ms());
            left.map_or(u32::MAX, |left| state.share.part(left))
        };
        QuotaLeft {
            minute: left.minute.map(|left| left.min(of_all(Span::Minute))),
            day: left.day.map(|left| left.min(of_all(Span::Day))),
        }
    }

    /// Keeps the record, and what is reserved for us in it.
    pub(crate) async fn keep(&self, source: &Source) -> Infallible {
        let Some(store) = self.store.get() else { return pending().await };
        let mut read_at = None;
        loop {
            let refresh = match self.state().share.is_whole() {
                true => REFRESH,
                false => REFRESH_SHARED,
            };
            let is_known = read_at.is_some_and(|at: Instant| at.elapsed() < refresh);
            if !is_known {
                read_at = Some(Instant::now());
            }
            let done = self.bring_up_to_date(&**store, source, is_known).await;
            if self.state().is_away {
                read_at = None;
            }
            if done.is_written {
                sleep(PACE).await;
            }
            tokio::select! {
                () = sleep(done.again.min(refresh)) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Saves what was taken, at the end of a session, which that does not hold up for long. Nothing
    /// stays reserved.
    pub(crate) async fn finish(&self, source: &Source) {
        let Some(store) = self.store.get() else { return };
        self.state().wishes.clear();
        let saving = self.bring_up_to_date(&**store, source, true);
        if timeout(ANSWERS_WITHIN, saving).await.is_err() {
            warn!(%source, "what was taken of the quota was not saved in time");
        }
    }

    /// Brings the record to what was taken and is wanted; where it `is_known`, it need not be read for
    /// that.
    async fn bring_up_to_date(
        &self,
        store: &dyn QuotaStore,
        source: &Source,
        is_known: bool,
    ) -> Done {
        let mut is_known = is_known && self.state().book.is_certain();
        for _ in 0..ATTEMPTS {
            if !is_known {
                match answer(store.load()).await {
                    Ok((record, revision)) => self.state().book.read(record, revision),
                    Err(fault) => return self.is_away(source, &fault),
                }
            }
            let now_ms = store.now_ms();
            let Draft { write, free_at_ms } = self.state().draft(now_ms);
            let again = free_at_ms.map_or(REFRESH, |at| {
                let wait = u64::try_from(at - now_ms).unwrap_or(0);
                Duration::from_millis(wait).clamp(PACE, REFRESH)
            });
            let Some((record, revision)) = write else {
                self.is_back(source);
                return Done { is_written: false, again };
            };
            match answer(store.save(&record, revision)).await {
                Ok(Some(revision)) => {
                    self.state().book.saved(Some(revision));
                    self.is_back(source);
                    return Done { is_written: true, again };
                }
                Ok(None) => is_known = false,
                Err(fault) => return self.is_away(source, &fault),
            }
        }
        debug!(%source, "others write the record of the quota, too");
        Done { is_written: true, again: Duration::ZERO }
    }

    fn is_away(&self, source: &Source, fault: &BrokerError) -> Done {
        if !std::mem::replace(&mut self.state().is_away, true) {
            warn!(%source, %fault, "what is taken of the quota cannot be kept");
        }
        self.changed.notify_one();
        Done { is_written: true, again: Duration::ZERO }
    }

    fn is_back(&self, source: &Source) {
        if std::mem::replace(&mut self.state().is_away, false) {
            info!(%source, "what is taken of the quota is kept again");
        }
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draft(&mut self, now_ms: i64) -> Draft {
        let now = Instant::now();
        if self.is_away && !self.share.is_whole() {
            self.incomplete_until = Some(now + ALL_SAVED_AFTER);
        }
        let is_complete = self.incomplete_until.is_none_or(|until| until <= now);
        self.book.draft(if is_complete { &self.wishes } else { &[] }, now_ms)
    }
}

/// What has come of an attempt to bring the record up to date.
struct Done {
    /// It was written, or was to be.
    is_written: bool,
    /// How long until it is to be looked at again.
    again: Duration,
}

/// When so much of what counts counts no more: at the `leaving` that says so, oldest first; `now` where
/// it is nothing.
fn free_at<Time>(excess: u32, leaving: impl Iterator<Item = (Time, u32)>, now: Time) -> Time {
    let (mut excess, mut free) = (excess, now);
    for (leaves, count) in leaving {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(count);
        free = leaves;
    }
    free
}

async fn answer<T>(asking: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    let late = |_| BrokerError::Unreachable("NATS does not answer in time".to_owned());
    timeout(ANSWERS_WITHIN, asking).await.map_err(late)?
}
