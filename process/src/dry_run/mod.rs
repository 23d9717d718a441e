//! What would this payload become? A dry run reads and judges one payload with the decoders, the rules
//! and the memory of the pipeline, and publishes, stores and remembers nothing.
//!
//! - [`request`]: what is asked, whichever way it came.
//! - [`format`]: which decoder reads it, where nobody says.
//! - [`judge`]: the answer, from a copy of what the pipeline remembers ([`Peek`]).
//! - [`grpc`] and [`endpoint`]: the two ways to ask.
//!
//! What it cannot know: whether the stream's duplicate window has an id that the memory has forgotten.

mod endpoint;
mod format;
mod grpc;
mod judge;
mod metrics;
mod request;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use schemas::DryRunStatus;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    engine::peek::{self, Peek, Question},
    reading::Reading,
};
pub(crate) use endpoint::endpoint;
pub(crate) use grpc::Grpc;
use metrics::Metrics;
use request::Request;

/// How many dry runs may be under way; one more is refused.
const MAX_AT_ONCE: usize = 4;
/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(5);
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
    permits: Arc<Semaphore>,
    metrics: Metrics,
}

impl DryRuns {
    /// With the questions that they have for the engine.
    pub(crate) fn new(reading: Arc<Reading>) -> (Arc<Self>, tokio::sync::mpsc::Receiver<Question>) {
        let (peek, questions) = peek::channel(MAX_AT_ONCE);
        let permits = Arc::new(Semaphore::new(MAX_AT_ONCE));
        (Arc::new(Self { reading, peek, permits, metrics: Metrics::register() }), questions)
    }

    /// What a payload would become.
    async fn run(&self, request: Result<Request, Refusal>) -> Result<Answer, Refusal> {
        let answer = async {
            let request = request?;
            let permits = Arc::clone(&self.permits);
            let permit = permits.try_acquire_owned().map_err(|_| Refusal::Busy)?;
            timeout(DEADLINE, self.work(request, permit)).await.unwrap_or(Err(Refusal::Late))
        };
        let answer = answer.await;
        self.metrics.count(&answer);
        answer
    }

    /// Reading and judging take a thread that may be kept busy; the permit goes with the work, which
    /// goes on where nobody waits for it any more.
    async fn work(
        &self,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, Refusal> {
        let reading = Arc::clone(&self.reading);
        let read = spawn_blocking(move || {
            let payload = format::read(request, &reading.decoder);
            payload.map(|payload| (payload, permit))
        });
        let (payload, permit) = read.await.map_err(|_| Refusal::Failed)??;
        let subject = judge::subject(&payload);
        let known = match subject.symbols.is_empty() {
            true => None,
            false => self.peek.ask(subject).await,
        };
        let reading = Arc::clone(&self.reading);
        let judged = spawn_blocking(move || {
            let _permit = permit;
            let run = judge::judge(payload, &reading.rules, known);
            let json = serde_json::to_string(&run).map_err(|_| Refusal::Failed)?;
            Ok(Answer { status: run.status, json })
        });
        judged.await.map_err(|_| Refusal::Failed)?
    }
}
