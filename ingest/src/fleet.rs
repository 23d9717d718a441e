//! The sources that run: begun, changed and ended as they are configured and set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use schemas::{Source as Name, SourceSetting, Symbol};
use service::Context;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    leases::Leases,
    metrics,
    plan::Configured,
    roster::{Entry, Roster},
    settings::{Setting, Settings},
    sharing::slices,
    source::Source,
    spool::Spools,
    status::Status,
    supervise::Supervised,
};

/// All sources of this instance, and who is told of them.
pub(crate) struct Fleet {
    pub(crate) context: Context,
    pub(crate) configured: Configured,
    pub(crate) roster: Arc<Roster>,
    pub(crate) spools: Spools,
    /// Every symbol that is or was to be fetched.
    pub(crate) announced: watch::Sender<BTreeSet<Symbol>>,
    /// How many sources this instance fetches, or fetches a part of.
    pub(crate) fetched: Arc<AtomicU64>,
}

/// A source that is run.
struct Running {
    symbols: watch::Sender<Arc<BTreeSet<Symbol>>>,
    stop: CancellationToken,
}

impl Fleet {
    /// Runs what is to run until shutdown. An error is a bug in a source.
    pub(crate) async fn run(
        self,
        mut settings: watch::Receiver<Settings>,
    ) -> Result<(), JoinError> {
        let mut sailing = Sailing {
            fleet: self,
            applied: BTreeMap::new(),
            running: BTreeMap::new(),
            leases: Arc::default(),
            tasks: JoinSet::new(),
        };
        let shutdown = sailing.fleet.context.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // Whoever tells the settings does so until shutdown.
                Ok(()) = settings.changed() => {
                    let settings = settings.borrow_and_update().clone();
                    sailing.apply(&settings.unwrap_or_default());
                }
                Some(ended) = sailing.tasks.join_next() => ended?,
            }
        }
        while let Some(ended) = sailing.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// The fleet, with what it is doing.
struct Sailing {
    fleet: Fleet,
    /// What was last set of each source, as far as it was looked at.
    applied: BTreeMap<Name, Option<Setting>>,
    running: BTreeMap<Name, Running>,
    leases: Arc<Leases>,
    tasks: JoinSet<()>,
}

impl Sailing {
    /// Makes what runs what it is to be. Only what was set anew is looked at.
    fn apply(&mut self, settings: &BTreeMap<Name, Setting>) {
        let configured = self.fleet.configured.names();
        let names: BTreeSet<_> = configured
            .chain(settings.keys().cloned())
            .chain(self.applied.keys().cloned())
            .collect();
        for name in names {
            let setting = settings.get(&name);
            if self.applied.get(&name).is_some_and(|applied| applied.as_ref() == setting) {
                continue;
            }
            let is_first = !self.applied.contains_key(&name);
            self.applied.insert(name.clone(), setting.cloned());
            match setting {
                Some(Ok(setting)) => self.settle(&name, Some(setting)),
                None => self.settle(&name, None),
                // The last good one stays: at the start that is the configuration.
                Some(Err(fault)) => {
                    if is_first && self.fleet.configured.runs(&name) {
                        self.settle(&name, None);
                    }
                    self.refuse(&name, fault);
                }
            }
        }
    }

    fn settle(&mut self, name: &Name, setting: Option<&SourceSetting>) {
        let default = SourceSetting::default();
        let plan = match self.fleet.configured.plan(name, setting.unwrap_or(&default)) {
            Ok(plan) => plan,
            // What others bring was set, and is not any more.
            Err(_) if setting.is_none() && !self.fleet.configured.runs(name) => {
                return self.fleet.roster.change(name, |entry| entry.setting_error = None);
            }
            Err(fault) => return self.refuse(name, &fault.to_string()),
        };
        match plan.source {
            Some(source) if plan.enabled => self.follow(source),
            source => {
                self.end(name);
                if setting.is_none() {
                    self.fleet.roster.forget(name);
                    return;
                }
                self.fleet.roster.change(name, |entry| {
                    *entry = Entry::default();
                    entry.url = source.map(|source| source.url()).unwrap_or_default();
                });
            }
        }
    }

    /// Lets a source run for its symbols: one that runs is told of them.
    fn follow(&mut self, source: Arc<dyn Source>) {
        let name = source.name().clone();
        let symbols: Arc<BTreeSet<_>> = Arc::new(source.symbols().into_iter().collect());
        self.announce(&symbols);
        self.fleet.roster.change(&name, |entry| {
            entry.slices = slices(&*source, &symbols);
            entry.host = source.host();
            entry.symbols = Arc::clone(&symbols);
            entry.setting_error = None;
        });
        match self.running.get(&name) {
            Some(running) => {
                info!(source = %name, symbols = symbols.len(), "the source follows other symbols");
                running.symbols.send_replace(symbols);
            }
            None => self.begin(&name, source, symbols),
        }
    }

    fn begin(&mut self, name: &Name, source: Arc<dyn Source>, symbols: Arc<BTreeSet<Symbol>>) {
        let (symbols, followed) = watch::channel(symbols);
        let (due, ours) = watch::channel(BTreeSet::new());
        let status = Arc::new(Status::of(name));
        let stop = self.fleet.context.shutdown.child_token();
        self.fleet.roster.change(name, |entry| {
            entry.url = source.url();
            entry.enabled = true;
            entry.status = Some(Arc::clone(&status));
            entry.due = Some(due);
        });
        let fetched = Arc::clone(&self.fleet.fetched);
        let spool = self.fleet.spools.place(&*source);
        let leases = Arc::clone(&self.leases);
        let supervised =
            Supervised { source, status, symbols: followed, due: ours, leases, spool, fetched };
        let context = Context { shutdown: stop.clone(), ..self.fleet.context.clone() };
        self.tasks.spawn(supervised.run(context));
        self.running.insert(name.clone(), Running { symbols, stop });
    }

    fn end(&mut self, name: &Name) {
        if let Some(running) = self.running.remove(name) {
            info!(source = %name, "the source is not to be fetched any more");
            running.stop.cancel();
        }
    }

    /// A setting cannot be used: what was before it stays.
    fn refuse(&self, name: &Name, fault: &str) {
        warn!(source = %name, fault, "the setting of the source is not used");
        metrics::settings_refused(name).increment(1);
        self.fleet.roster.change(name, |entry| entry.setting_error = Some(fault.to_owned()));
    }

    fn announce(&self, symbols: &BTreeSet<Symbol>) {
        self.fleet.announced.send_if_modified(|announced| {
            let before = announced.len();
            announced.extend(symbols.iter().cloned());
            announced.len() > before
        });
    }
}
