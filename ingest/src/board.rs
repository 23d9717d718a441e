//! The board on which every instance tells how its sources are: the bucket `sources`.
//!
//! A key is an instance, gone when it is not renewed, so what is read there is of the living. It is
//! also what the sources are shared by: whoever tells of a source could fetch it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use nats::{Bucket, BucketError, Directory, Nats};
use schemas::{Source as Name, http::SourceStatus, subject};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    report::{self, Report},
    roster::Roster,
    sharing::share,
};

/// How often the board is brought up to date, and looked at for what is due to us.
const PACE: Duration = Duration::from_secs(1);

/// How long whoever asks waits for what the other instances tell.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// What the living instances tell.
#[derive(Debug)]
struct Told {
    reports: BTreeMap<String, Report>,
    /// Whether none of them is missing.
    is_complete: bool,
}

/// The board, as one instance sees it.
pub(crate) struct Board {
    nats: Nats,
    me: Arc<str>,
    roster: Arc<Roster>,
    bucket: OnceCell<Bucket>,
    directory: OnceCell<Directory>,
}

impl Board {
    /// The board on which `me` tells what is in the roster.
    pub(crate) fn new(nats: &Nats, me: &Arc<str>, roster: &Arc<Roster>) -> Self {
        let (nats, me, roster) = (nats.clone(), Arc::clone(me), Arc::clone(roster));
        Self { nats, me, roster, bucket: OnceCell::new(), directory: OnceCell::new() }
    }

    /// Tells what is in the roster until shutdown, and then that there is nothing any more.
    pub(crate) async fn tell(&self, shutdown: &CancellationToken) {
        shutdown.run_until_cancelled(self.keep_telling()).await;
        if let Some(bucket) = self.bucket.get()
            && let Err(error) = bucket.delete(&self.me, None).await
        {
            warn!(%error, "what was told of our sources stays until its time runs out");
        }
    }

    async fn keep_telling(&self) {
        let renew_after = self.nats.lease_ttl() / 3;
        let mut told: Option<(Report, Instant)> = None;
        let mut incomplete = None;
        loop {
            let report = self.roster.report();
            let is_known = told
                .as_ref()
                .is_some_and(|(told, at)| *told == report && at.elapsed() < renew_after);
            if !is_known {
                match self.put(&report).await {
                    Ok(()) => told = Some((report, Instant::now())),
                    Err(error) => warn!(%error, "how our sources are cannot be told"),
                }
            }
            // While the board cannot be read, everything stays where it is. An instance that lives and
            // tells nothing has just begun, or could not be heard: it has the time of a lease for it.
            match self.read().await {
                Ok(Told { reports, is_complete }) => {
                    let since = match is_complete {
                        true => None,
                        false => Some(incomplete.unwrap_or_else(Instant::now)),
                    };
                    incomplete = since;
                    if since.is_none_or(|since| since.elapsed() > self.nats.lease_ttl()) {
                        let (shares, none) = (share(&reports), BTreeSet::new());
                        self.roster.assign(shares.get(&*self.me).unwrap_or(&none));
                    }
                }
                Err(error) => {
                    incomplete = None;
                    debug!(%error, "what is due to us is not known");
                }
            }
            tokio::select! {
                () = sleep(PACE.min(renew_after)) => {}
                () = self.roster.changed() => {}
            }
        }
    }

    async fn put(&self, report: &Report) -> Result<(), BucketError> {
        // Texts, numbers and times always become JSON.
        let value = serde_json::to_vec(report).unwrap_or_default();
        self.bucket().await?.put(&self.me, Bytes::from(value)).await.map(drop)
    }

    /// What all instances tell, and we, as it is now.
    async fn read(&self) -> Result<Told, BucketError> {
        let bucket = self.bucket().await?;
        let directory = self.directory.get_or_try_init(|| Directory::follow(&self.nats)).await?;
        let instances = directory.instances("lizards-ingest").into_iter();
        let others = instances.map(|found| found.instance).filter(|name| **name != *self.me);
        let asking = others.map(async |name| {
            let told = bucket.get(&name).await?;
            Ok(told.map(|(value, _)| (name, parse(&value).unwrap_or_default())))
        });
        let told = try_join_all(asking).await?;
        let is_complete = told.iter().all(Option::is_some);
        let ours = (self.me.to_string(), self.roster.report());
        Ok(Told { reports: told.into_iter().flatten().chain([ours]).collect(), is_complete })
    }

    /// What all instances tell, or only what we know ourselves where the others cannot be read.
    pub(crate) async fn reports(&self) -> BTreeMap<String, Report> {
        match timeout(READ_WITHIN, self.read()).await {
            Ok(Ok(told)) => told.reports,
            fault => {
                debug!(?fault, "what the other instances tell is not known");
                [(self.me.to_string(), self.roster.report())].into()
            }
        }
    }

    /// How a source is, whoever fetches it; nothing where nobody knows it.
    pub(crate) async fn status(&self, name: &Name) -> Option<SourceStatus> {
        let known = self.roster.get(name);
        report::status(name, known.as_ref(), &self.reports().await, Timestamp::now())
    }

    /// Where all sources that are to be fetched are fetched from.
    pub(crate) async fn urls(&self) -> Vec<String> {
        let reports = self.reports().await.into_values();
        let told = reports.flat_map(|report| report.sources);
        told.map(|(name, report)| (name, report.url))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect()
    }

    async fn bucket(&self) -> Result<&Bucket, BucketError> {
        self.bucket.get_or_try_init(|| bucket(&self.nats)).await
    }
}

/// The bucket of reports.
pub(crate) async fn bucket(nats: &Nats) -> Result<Bucket, BucketError> {
    let what = "how each instance says that its sources are: gone when not renewed";
    nats.bucket(subject::SOURCES, what, Some(nats.lease_ttl())).await
}

/// What all instances tell, by instance.
pub(crate) async fn read(bucket: &Bucket) -> Result<BTreeMap<String, Report>, BucketError> {
    let entries = bucket.entries().await?.into_iter();
    Ok(entries.filter_map(|(name, value, _)| Some((name, parse(&value)?))).collect())
}

/// What a newer version tells that we do not understand is passed over.
fn parse(value: &Bytes) -> Option<Report> {
    serde_json::from_slice(value).ok()
}
