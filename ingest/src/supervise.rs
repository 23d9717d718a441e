//! Keeping one source running: owned by one instance at a time, restarted after failures.

mod stop;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nats::Broker;
use schemas::{Symbol, http::SourceState};
use service::Context;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::stop::{End, Stop};
use crate::{
    leases::Leases,
    outlet::{backoff, delay, outlet, report},
    ownership::{Change, Ownership},
    place::{Keeper, PlaceBucket},
    publish::{Window, newest_id, publish},
    quota::QuotaBucket,
    sharing::slice_of,
    source::{ErrorKind, FetchError, Followed, Session, Source},
    spool::{Spool, SpoolPlace},
    status::Status,
    stored::Stored,
};

/// A session that lasted this long was a good one: the next wait is short again.
const LASTING: Duration = Duration::from_secs(60);

/// How long until it is looked again whether the broker takes what was fetched, or gives a lease.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the supervision of a source needs.
pub(crate) struct Supervised {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) status: Arc<Status>,
    /// The symbols that it is to fetch, here or elsewhere.
    pub(crate) symbols: watch::Receiver<Arc<BTreeSet<Symbol>>>,
    /// The slices of it that are due to us.
    pub(crate) due: watch::Receiver<BTreeSet<u16>>,
    pub(crate) leases: Arc<Leases>,
    /// Where it spools what cannot be published; nowhere where it can wait, or is to.
    pub(crate) spool: Option<SpoolPlace>,
    /// How many sources this instance fetches, or fetches a part of.
    pub(crate) fetched: Arc<AtomicU64>,
}

impl Supervised {
    /// Runs the source for the slices that this instance owns, until shutdown or until the source is
    /// at its end.
    pub(crate) async fn run(self, context: Context) {
        let mut ownership = Ownership::new(&context, &*self.source, &self.leases, self.due.clone());
        let mut window = self.window();
        if self.source.is_played_once() {
            let bucket = Box::new(PlaceBucket::new(&context.nats, self.source.name()));
            window.keep_place_in(Arc::new(Keeper::new(self.source.name(), bucket)));
        }
        if let Some(account) = self.source.account() {
            let bucket = QuotaBucket::new(&context.nats, self.source.name(), account.name());
            account.keep_in(Box::new(bucket));
        }
        // What an earlier process has left is published, whoever has the source now.
        if self.spool.as_ref().is_some_and(SpoolPlace::has_left) {
            self.open_spool(&mut window);
        }
        let mut backoff = backoff();
        loop {
            if ownership.slices().is_empty() {
                let holds_on = window.spools();
                let changed = tokio::select! {
                    () = context.shutdown.cancelled() => {
                        return self.drain_within(&context, &mut window).await;
                    }
                    changed = ownership.changed(holds_on) => changed,
                    never = self.drain(&context.broker, &mut window) => match never {},
                };
                if let Err(error) = changed {
                    warn!(source = %self.source.name(), %error, "the leases cannot be had");
                    self.status.failed(&error);
                    pause(backoff.next_delay(), &context.shutdown).await;
                    continue;
                }
                backoff.reset();
            }
            self.open_spool(&mut window);
            self.fetched.fetch_add(1, Ordering::Relaxed);
            let end = self.own_slices(&context, &mut ownership, &mut window).await;
            self.fetched.fetch_sub(1, Ordering::Relaxed);
            match end {
                End::Shutdown => {
                    // Whoever has the lease next may open the spool.
                    drop(window);
                    return ownership.release().await;
                }
                // It stays ours, so that nobody else plays it again.
                End::Finished => {
                    context.shutdown.cancelled().await;
                    return ownership.release().await;
                }
                End::Lost if !window.spools() => ownership.forget_lost(),
                End::Lost | End::Moved => {}
            }
            if window.is_empty() {
                if ownership.gives_back() {
                    context.shutdown.run_until_cancelled(self.source.leave()).await;
                }
                ownership.settle().await;
            }
            if ownership.slices().is_empty() {
                self.status.own(BTreeSet::new());
                self.status.set(SourceState::Standby);
            }
        }
    }

    /// Publishes what was fetched of slices that are not ours any more; then there is nothing to do.
    /// A source that waits for its lease instead goes on with what is in memory then.
    async fn drain(&self, broker: &Arc<dyn Broker>, window: &mut Window) -> Infallible {
        while self.keeps_all(window) && !window.is_empty() {
            let (_, mut nothing) = mpsc::channel(1);
            publish(broker, window, &mut nothing).await;
            sleep(LOOK_AGAIN).await;
        }
        pending().await
    }

    /// The same at shutdown, as far as there is time.
    async fn drain_within(&self, context: &Context, window: &mut Window) {
        if !self.keeps_all(window) || window.is_empty() {
            return;
        }
        let (_, mut nothing) = mpsc::channel(1);
        let publishing = publish(&context.broker, window, &mut nothing);
        if timeout(context.shutdown_deadline, publishing).await.is_err() {
            warn!(source = %self.source.name(), "stopped before the broker had everything");
        }
    }

    /// Whether everything that was fetched is published by whoever has fetched it, also when another
    /// instance has published since: order is less than a payload, and the same one is known by its
    /// id.
    fn keeps_all(&self, window: &Window) -> bool {
        self.source.divides() || window.spools()
    }

    /// Opens the spool with what earlier processes have left in it. Without one the source is paused
    /// while the broker is away.
    fn open_spool(&self, window: &mut Window) {
        let (Some(place), false) = (&self.spool, window.spools()) else { return };
        let source = self.source.name();
        match Spool::open(place, source) {
            Ok(spool) => window.spool_into(spool),
            Err(fault) => {
                let folder = place.folder.display();
                error!(%source, %folder, %fault, "the spool cannot be opened");
                self.status.failed(format!("the spool {folder} cannot be opened: {fault}"));
            }
        }
    }

    /// Runs sessions for the slices that are ours until some are to be given back, or until something
    /// ends it. Those that are ours meanwhile are fetched, too.
    async fn own_slices(
        &self,
        context: &Context,
        ownership: &mut Ownership,
        window: &mut Window,
    ) -> End {
        let (lost, moved) = (CancellationToken::new(), CancellationToken::new());
        let stop = Stop {
            shutdown: &context.shutdown,
            drain_within: context.shutdown_deadline,
            moved: &moved,
            lost: &lost,
        };
        let (all, holds_on) = (&self.symbols, window.spools());
        let (sender, followed) = Followed::new(self.symbols_in(&ownership.slices()));
        let followed = followed.part_of(all.clone());
        let (owned, mut slices) = watch::channel(ownership.slices());
        self.status.own(ownership.slices());
        let watching = async {
            let change = has_changed(ownership, holds_on, |slices| {
                self.status.own(slices.clone());
                owned.send_replace(slices);
            });
            if change.await == Change::Due {
                // Slices are not given back while nothing can be published: what is fetched then is
                // spooled.
                while self.status.unpublished().is_some() {
                    sleep(LOOK_AGAIN).await;
                }
                moved.cancel();
                ownership.lost().await;
            }
            lost.cancel();
        };
        let following = async {
            let mut all = all.clone();
            loop {
                tokio::select! {
                    Ok(()) = all.changed() => {}
                    Ok(()) = slices.changed() => {}
                    else => return,
                }
                all.mark_unchanged();
                let now = Arc::new(self.symbols_in(&slices.borrow_and_update()));
                sender.send_if_modified(|before| {
                    *before != now && {
                        *before = now;
                        true
                    }
                });
            }
        };
        let attending = async {
            tokio::join!(watching, following);
            pending().await
        };
        tokio::select! {
            end = self.own(&context.broker, &followed, window, stop) => end,
            end = attending => end,
        }
    }

    /// The symbols to fetch that are in these slices.
    fn symbols_in(&self, slices: &BTreeSet<u16>) -> BTreeSet<Symbol> {
        let all = self.symbols.borrow();
        match self.source.divides() {
            true => all.iter().filter(|s| slices.contains(&slice_of(s))).cloned().collect(),
            false => BTreeSet::clone(&all),
        }
    }

    fn window(&self) -> Window {
        Window::new(self.source.name(), self.source.divides(), Arc::clone(&self.status))
    }

    /// Runs one session after the other, until the source is at its end or we are to stop.
    async fn own(
        &self,
        broker: &Arc<dyn Broker>,
        followed: &Followed,
        window: &mut Window,
        stop: Stop<'_>,
    ) -> End {
        let mut backoff = backoff();
        // Another instance may have gone on since: the broker is asked.
        window.begin();
        if let Some(account) = self.source.account() {
            account.begin();
        }
        loop {
            self.status.set(SourceState::Starting);
            let started = Instant::now();
            let error = match self.session(broker, followed, window, stop).await {
                Ok(End::Finished) => {
                    self.status.set(SourceState::Finished);
                    return End::Finished;
                }
                Ok(end) => return end,
                Err(error) => error,
            };
            report(self.source.name(), &self.status, &error);
            self.status.set(SourceState::BackingOff);
            if started.elapsed() >= LASTING {
                backoff.reset();
            }
            tokio::select! {
                end = stop.asked() => return end,
                () = sleep(delay(&error, &mut backoff)) => {}
            }
        }
    }

    /// One session: fetches and publishes until fetching ends and everything fetched is stored or
    /// spooled. What is not, because the lease was lost, stays in the window; a source that spools
    /// publishes it even then, because it has it alone.
    ///
    /// The first session of an owner goes on from what the broker has; the others need not ask where
    /// there is a spool, because nobody else has published since. A source that is divided asks for
    /// each symbol by itself.
    async fn session(
        &self,
        broker: &Arc<dyn Broker>,
        followed: &Followed,
        window: &mut Window,
        stop: Stop<'_>,
    ) -> Result<End, FetchError> {
        let source = self.source.name();
        let keeper = window.keeper();
        let resume = match window.goes_on() {
            _ if self.source.divides() => None,
            Some(newest) => Some(newest),
            None => {
                let asking = async {
                    let stored = newest_id(broker, source).await?;
                    if let Some(newest) = &stored {
                        info!(%source, newest, "the broker has messages of this source");
                    }
                    match &keeper {
                        Some(keeper) => keeper.begin(broker, stored).await,
                        None => Ok(stored),
                    }
                };
                let stored = tokio::select! {
                    end = stop.asked() => return Ok(end),
                    stored = asking => stored,
                };
                let stored = stored
                    .map_err(|fault| FetchError::new(ErrorKind::Broker, fault.to_string()))?;
                window.resume(stored)
            }
        };
        let symbols = followed.clone();
        let (outlet, mut intake) = outlet(source, Arc::clone(&self.status));
        let stored = Stored::new(broker, source);
        let session = Session { resume, stored, symbols, outlet };
        // Whichever way fetching ends, its outlet is dropped, and that ends publishing.
        let fetching = async {
            tokio::select! {
                end = stop.asked() => Ok(end),
                ended = self.source.run(session) => ended.map(|()| End::Finished),
            }
        };
        let spools = window.spools();
        let publishing = async {
            tokio::select! {
                () = stop.lost.cancelled(), if !spools => {}
                () = publish(broker, window, &mut intake) => {}
                () = stop.drained() => warn!(%source, "stopped before the broker had everything"),
            }
        };
        let account = self.source.account();
        let placing = async {
            match &keeper {
                Some(keeper) => keeper.keep().await,
                None => pending().await,
            }
        };
        let accounting = async {
            match account {
                Some(account) => account.keep(source).await,
                None => pending().await,
            }
        };
        let (mut end, ()) = tokio::select! {
            ended = async { tokio::join!(fetching, publishing) } => ended,
            never = placing => match never {},
            never = accounting => match never {},
        };
        if let Some(account) = account {
            account.finish(source).await;
        }
        while let Ok(payload) = intake.try_recv() {
            window.push(payload);
        }
        if let Some(keeper) = keeper.filter(|_| !stop.lost.is_cancelled()) {
            keeper.finish().await;
        }
        // At its end is only what is also published.
        if !window.is_empty() && matches!(end, Ok(End::Finished)) {
            end = Ok(if stop.lost.is_cancelled() { End::Lost } else { End::Shutdown });
        }
        end
    }
}

/// Returns when something of what is ours is to be given back, or is lost. What is ours in addition is
/// told.
async fn has_changed(
    ownership: &mut Ownership,
    holds_on: bool,
    gained: impl Fn(BTreeSet<u16>),
) -> Change {
    loop {
        match ownership.changed(holds_on).await {
            Ok(Change::Gained) => gained(ownership.slices()),
            Ok(change) => return change,
            Err(error) => {
                debug!(%error, "the leases cannot be had");
                sleep(LOOK_AGAIN).await;
            }
        }
    }
}

async fn pause(time: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = sleep(time) => {}
    }
}
