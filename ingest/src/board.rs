//! The board on which every instance tells how its sources are: the bucket `sources`.
//!
//! A key is an instance, gone when it is not renewed, so what is read there is of the living.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use nats::{Bucket, BucketError, Nats};
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
};

/// How often the board is brought up to date.
const PACE: Duration = Duration::from_secs(1);

/// How long whoever asks waits for what the other instances tell.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// The board, as one instance sees it.
pub(crate) struct Board {
    nats: Nats,
    me: Arc<str>,
    roster: Arc<Roster>,
    bucket: OnceCell<Bucket>,
}

impl Board {
    /// The board on which `me` tells what is in the roster.
    pub(crate) fn new(nats: &Nats, me: &Arc<str>, roster: &Arc<Roster>) -> Self {
        let (nats, me, roster) = (nats.clone(), Arc::clone(me), Arc::clone(roster));
        Self { nats, me, roster, bucket: OnceCell::new() }
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
            sleep(PACE.min(renew_after)).await;
        }
    }

    async fn put(&self, report: &Report) -> Result<(), BucketError> {
        // Texts, numbers and times always become JSON.
        let value = serde_json::to_vec(report).unwrap_or_default();
        self.bucket().await?.put(&self.me, Bytes::from(value)).await.map(drop)
    }

    /// What all instances tell, or only what we know ourselves where the others cannot be read.
    pub(crate) async fn reports(&self) -> BTreeMap<String, Report> {
        let reading = async { read(self.bucket().await?).await };
        let mut reports = match timeout(READ_WITHIN, reading).await {
            Ok(Ok(reports)) => reports,
            fault => {
                debug!(?fault, "what the other instances tell is not known");
                BTreeMap::new()
            }
        };
        reports.insert(self.me.to_string(), self.roster.report());
        reports
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
    // What a newer version tells that we do not understand is passed over.
    Ok(entries
        .filter_map(|(me, value, _)| Some((me, serde_json::from_slice(&value).ok()?)))
        .collect())
}
