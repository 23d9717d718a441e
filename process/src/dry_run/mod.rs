//! What would this payload become? A dry run reads and judges one payload with the decoders, the rules
//! and the memory of the pipeline, and publishes, stores and remembers nothing.
//!
//! - [`request`]: what is asked, whichever way it came.
//! - [`format`]: which decoder reads it, where nobody says.
//! - [`payload`]: what was read, and in which partitions its events are judged.
//! - [`gather`]: what the owners of these partitions say of them; [`others`] and [`question`]: how one
//!   instance asks another.
//! - [`judge`]: what one memory says, by a copy of what the pipeline remembers ([`Peek`]).
//! - [`answer`]: all of it together.
//! - [`grpc`] and [`endpoint`]: the ways to ask.
//!
//! What it cannot know: whether the stream's duplicate window has an id that the memory has forgotten.
//!
//! What it cannot withstand: a decoder that panics is caught, as in the pipeline, but a payload that ends
//! its process (a stack that overflows, memory that runs out) ends the one that dry-runs it. That is one
//! process: the owners are asked only when the payload has been read here. The pipeline counts no try for
//! it, for such a payload is in no stream; what it sees is a process that has ended. Who dry-runs it again
//! and again, while payloads wait, makes the pipeline careful, and so slow, for as long (`engine/care.rs`).

mod answer;
mod endpoint;
mod format;
mod gather;
mod grpc;
mod judge;
mod metrics;
mod others;
mod payload;
mod question;
mod request;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use schemas::DryRunStatus;
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::{Instant, timeout},
};

use crate::{
    engine::peek::{self, Peek},
    reading::Reading,
};
pub(crate) use endpoint::endpoints;
use gather::{Gathered, Permit};
pub(crate) use grpc::Grpc;
use metrics::Metrics;
pub(crate) use others::{Instances, Others};
use payload::{Homes, Payload};
use question::Question;
use request::Request;

/// How many dry runs may be under way, and beside them as many parts of those of other instances, so that
/// two that ask each other do not stand in each other's way; one more is refused.
const MAX_AT_ONCE: usize = 4;
/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long after its beginning it still waits for the owners of its symbols, and how long where reading it
/// has taken most of that.
const OWNERS_WITHIN: Duration = Duration::from_secs(3);
const OWNERS_AT_LEAST: Duration = Duration::from_secs(1);
/// The longest payload, which is that of a source.
const MAX_CONTENT_BYTES: usize = 512 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Something of the request means nothing.
    #[error("{field}: {fault}")]
    Invalid {
        /// Which header, or `content`.
        field: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Others are served.
    #[error("{MAX_AT_ONCE} dry runs are under way; try again")]
    Busy,
    /// It takes too long.
    #[error("the dry run took longer than {} s", DEADLINE.as_secs())]
    Late,
    /// It has a defect.
    #[error("the dry run has failed")]
    Failed,
}

impl Refusal {
    fn invalid(field: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), fault: fault.into() }
    }
}

/// An answer.
pub(crate) struct Answer {
    status: DryRunStatus,
    json: String,
}

/// Does dry runs, at most [`MAX_AT_ONCE`] at a time.
pub(crate) struct DryRuns {
    reading: Arc<Reading>,
    peek: Peek,
    /// The name of this instance.
    me: Arc<str>,
    others: Arc<dyn Others>,
    permits: Arc<Semaphore>,
    permits_of_others: Arc<Semaphore>,
    metrics: Metrics,
}

impl DryRuns {
    /// With the questions that they have for the engine.
    pub(crate) fn new(
        reading: Arc<Reading>,
        me: Arc<str>,
        others: Arc<dyn Others>,
    ) -> (Arc<Self>, mpsc::Receiver<peek::Question>) {
        let (peek, questions) = peek::channel(2 * MAX_AT_ONCE);
        let [permits, permits_of_others] = [(); 2].map(|()| Arc::new(Semaphore::new(MAX_AT_ONCE)));
        let metrics = Metrics::register();
        let runs = Self { reading, peek, me, others, permits, permits_of_others, metrics };
        (Arc::new(runs), questions)
    }

    /// What a payload would become.
    async fn run(&self, request: Result<Request, Refusal>) -> Result<Answer, Refusal> {
        let answer = async {
            let request = request?;
            let permit = permit(&self.permits)?;
            timeout(DEADLINE, self.work(request, permit)).await.unwrap_or(Err(Refusal::Late))
        };
        let answer = answer.await;
        self.metrics.count(&answer);
        answer
    }

    /// What our own memory makes of the events that another instance asks about, as JSON.
    async fn part(&self, question: Question) -> Result<Bytes, Refusal> {
        let permit = permit(&self.permits_of_others)?;
        let answer = timeout(DEADLINE, self.work_for_another(question, permit));
        answer.await.unwrap_or(Err(Refusal::Late))
    }

    /// Reading and judging take a thread that may be kept busy; the permit goes with the work, which
    /// goes on where nobody waits for it any more.
    async fn work(&self, request: Request, permit: Permit) -> Result<Answer, Refusal> {
        let until = Instant::now() + OWNERS_WITHIN;
        let reading = Arc::clone(&self.reading);
        let payload = blocking(&permit, move || format::read(request, &reading.decoder)).await??;
        let payload = Arc::new(payload);
        let until = until.max(Instant::now() + OWNERS_AT_LEAST);
        let Gathered { mut parts, open, whys } = self.gather(&payload, &permit, until).await;
        let reading = Arc::clone(&self.reading);
        let finish = move || {
            let rules = &reading.rules;
            let not_asked = answer::not_asked(&payload, &open, rules, &whys);
            let alone = payload.unreadable().chain(open).collect();
            parts.push(judge::judge_alone(&payload, alone, rules));
            let run = answer::join(&payload, parts, not_asked);
            let json = serde_json::to_string(&run).map_err(|_| Refusal::Failed)?;
            Ok(Answer { status: run.status, json })
        };
        blocking(&permit, finish).await?
    }

    async fn work_for_another(&self, question: Question, permit: Permit) -> Result<Bytes, Refusal> {
        let reading = Arc::clone(&self.reading);
        let read = move || {
            let Question { raw, partitions } = question;
            let payload = Payload::read(raw, &reading.decoder);
            let events: Vec<_> = payload.readable().map(|(number, _)| number).collect();
            let mut asked = payload.homes(&events, partitions.count);
            asked.retain(|home, _| partitions.asked.contains(home));
            (payload, asked)
        };
        let (payload, asked): (Payload, Homes) = blocking(&permit, read).await?;
        let part = self.judge_own(&Arc::new(payload), asked, &permit).await?;
        let json = blocking(&permit, move || serde_json::to_vec(&part)).await?;
        json.map(Bytes::from).map_err(|_| Refusal::Failed)
    }
}

fn permit(permits: &Arc<Semaphore>) -> Result<Permit, Refusal> {
    let permit = Arc::clone(permits).try_acquire_owned();
    permit.map(Arc::new).map_err(|_| Refusal::Busy)
}

/// Does it where it holds up nobody.
async fn blocking<T: Send + 'static>(
    permit: &Permit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let permit = Arc::clone(permit);
    let worked = spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    // It has panicked.
    worked.await.map_err(|_| Refusal::Failed)
}
