//! Publishing what was posted: one publishing session for all requests of the instance.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use nats::{Broker, BrokerError, Exclusivity, Receipt, topology::Stream};
use schemas::RawTick;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::publish::message;

/// How many payloads wait to be sent, and how many are sent and not confirmed. Each belongs to a
/// request that waits, of which every source has few.
const WAITING: usize = 64;

/// Where requests put what was posted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Poster(mpsc::Sender<Post>);

/// What requests have put there.
pub(crate) struct Posts(mpsc::Receiver<Post>);

/// A payload, and whoever waits until it is stored.
struct Post {
    payload: RawTick,
    waiting: Waiting,
}

type Waiting = oneshot::Sender<Result<Receipt, String>>;

pub(super) fn channel() -> (Poster, Posts) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Poster(sender), Posts(receiver))
}

impl Poster {
    /// Publishes a payload, and returns when the broker has it.
    pub(super) async fn post(&self, payload: RawTick) -> Result<Receipt, String> {
        let (waiting, stored) = oneshot::channel();
        let stopping = || "it is being stopped".to_owned();
        self.0.send(Post { payload, waiting }).await.map_err(|_| stopping())?;
        stored.await.map_err(|_| stopping())?
    }
}

/// Publishes what is posted, until nobody can post any more, or until `drain_within` after the
/// shutdown. A session is opened when there is something to publish, and again after a fault.
pub(crate) async fn run(
    mut posts: Posts,
    broker: Arc<dyn Broker>,
    shutdown: CancellationToken,
    drain_within: Duration,
) {
    let publishing = async {
        let mut pending = VecDeque::new();
        while let Some(post) = posts.0.recv().await {
            pending.push_back(post);
            let mut ended = session(&broker, &mut posts.0, &mut pending).await;
            if ended.is_err() {
                // A connection that was idle may have broken unseen. What is sent twice has one id.
                ended = session(&broker, &mut posts.0, &mut pending).await;
            }
            if let Err(error) = ended {
                warn!(%error, requests = pending.len(), "what was posted could not be published");
                // Whether it is stored is not known: whoever posted it may send it again.
                for post in pending.drain(..) {
                    let _ = post.waiting.send(Err(error.to_string()));
                }
            }
        }
    };
    tokio::select! {
        () = publishing => {}
        () = async { shutdown.cancelled().await; sleep(drain_within).await } => {}
    }
}

/// One publishing session: first what is pending, then what comes, until nobody can post any more.
async fn session(
    broker: &Arc<dyn Broker>,
    posts: &mut mpsc::Receiver<Post>,
    pending: &mut VecDeque<Post>,
) -> Result<(), BrokerError> {
    let mut publisher = broker.publisher(&[Stream::Raw], Exclusivity::Shared).await?;
    for post in &*pending {
        publisher.send(message(&post.payload)).await?;
    }
    let mut open = true;
    while open || !pending.is_empty() {
        tokio::select! {
            receipt = publisher.confirmed(), if !pending.is_empty() => {
                let receipt = receipt?;
                if let Some(post) = pending.pop_front() {
                    // Whoever does not wait any more was told that it is not known.
                    let _ = post.waiting.send(Ok(receipt));
                }
            }
            post = posts.recv(), if open && pending.len() < WAITING => match post {
                Some(post) if post.waiting.is_closed() => {}
                Some(post) => {
                    let message = message(&post.payload);
                    pending.push_back(post);
                    publisher.send(message).await?;
                }
                None => open = false,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeBroker, Fault, tick};

    /// Posts the ticks one after the other, and how each ended.
    async fn post(broker: &FakeBroker, ticks: &[usize]) -> Vec<Result<bool, String>> {
        let (poster, posts) = channel();
        let posting = async move {
            let mut ended = Vec::new();
            for &n in ticks {
                ended.push(poster.post(tick(n)).await.map(|receipt| receipt.duplicate));
            }
            ended
        };
        let publishing =
            run(posts, broker.shared(), CancellationToken::new(), Duration::from_secs(1));
        tokio::join!(posting, publishing).0
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_posts_is_told_when_it_is_stored() {
        let broker = FakeBroker::new([]);
        assert_eq!(post(&broker, &[0, 1, 1]).await, [Ok(false), Ok(false), Ok(true)]);
        assert_eq!((broker.ids(), broker.sessions()), (vec![tick(0).id, tick(1).id], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_fault_what_is_posted_again_is_stored_once() {
        let broker = FakeBroker::new([Fault::Open, Fault::Open, Fault::Confirm { after: 1 }]);
        let ended = post(&broker, &[0, 0, 1, 2]).await;
        assert!(ended[0].is_err(), "{ended:?}");
        // The receipt of the third was lost with its connection.
        assert_eq!(ended[1..], [Ok(false), Ok(true), Ok(false)]);
        assert_eq!(broker.ids(), [tick(0).id, tick(1).id, tick(2).id]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_it_even_if_somebody_could_still_post() {
        let (_poster, posts) = channel();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        run(posts, FakeBroker::new([]).shared(), shutdown, Duration::from_secs(5)).await;
    }
}
