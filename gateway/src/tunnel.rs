//! WebSockets through the gateway: bytes as they come, in both directions.
//!
//! The gateway looks at nothing but where the server's frames end, so that it can say goodbye
//! properly when it stops. A tunnel holds 24 KiB of buffers, and a side that does not read stops
//! the other one from being read: nothing piles up here.

use std::{io, time::Duration};

use axum::{body::Body, http::HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use schemas::{CloseReason, Closing, ServerMessage, msgpack};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    balance::Target,
    frames::{self, Frames},
    limit::Place,
    metrics,
};

const TOWARD_CLIENT: usize = 16 * 1024;

/// How long the other direction may go on when one has ended: a WebSocket has no half (RFC 6455,
/// section 7.1.1).
const LINGER: Duration = Duration::from_secs(2);

/// When a client of a stopped gateway should come back.
const RETRY_AFTER_MS: u64 = 500;

/// All open tunnels.
pub(crate) struct Tunnels {
    open: TaskTracker,
    shutdown: CancellationToken,
}

/// The two ends of a tunnel to be.
pub(crate) struct Ends {
    pub(crate) client: OnUpgrade,
    pub(crate) instance: OnUpgrade,
    /// The instance, which counts as loaded while the tunnel is open.
    pub(crate) target: Target,
    /// What the client has one less of while the tunnel is open.
    pub(crate) place: Place,
    /// What is said when the gateway stops, in the protocol that both speak: a finished frame.
    pub(crate) farewell: Bytes,
}

impl Tunnels {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self { open: TaskTracker::new(), shutdown }
    }

    /// Opens a tunnel as soon as both ends have switched protocols.
    pub(crate) fn open(&self, ends: Ends) {
        let shutdown = self.shutdown.clone();
        self.open.spawn(async move {
            let Ends { client, instance, target, place, farewell } = ends;
            metrics::tunnels().increment(1.0);
            match tokio::try_join!(client, instance) {
                Ok((client, instance)) => carry(client, instance, farewell, &shutdown).await,
                Err(error) => debug!(%error, "the protocol was not switched"),
            }
            metrics::tunnels().decrement(1.0);
            drop((target, place));
        });
    }

    /// A body that ends when the gateway stops, and keeps `held` until its end: whoever reads it
    /// knows how to come back.
    pub(crate) fn until_shutdown(&self, body: Body, held: (Target, Place)) -> Body {
        let stopped = self.shutdown.clone().cancelled_owned();
        let pieces = body.into_data_stream().take_until(stopped).map(move |piece| {
            let _held = &held;
            piece
        });
        Body::from_stream(pieces)
    }

    /// Waits until all tunnels have ended, which they do soon after shutdown.
    pub(crate) async fn drained(&self) {
        self.open.close();
        self.open.wait().await;
    }
}

async fn carry(
    client: Upgraded,
    instance: Upgraded,
    farewell: Bytes,
    shutdown: &CancellationToken,
) {
    let ended = relay(TokioIo::new(client), TokioIo::new(instance), farewell, shutdown);
    if let Err(error) = ended.await {
        debug!(%error, "a tunnel broke");
    }
}

/// Carries both directions until both have ended.
async fn relay(
    client: impl AsyncRead + AsyncWrite,
    instance: impl AsyncRead + AsyncWrite,
    farewell: Bytes,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let (mut client_sends, mut client_gets) = tokio::io::split(client);
    let (mut instance_sends, mut instance_gets) = tokio::io::split(instance);
    let upward = async {
        tokio::io::copy(&mut client_sends, &mut instance_gets).await?;
        instance_gets.shutdown().await
    };
    let downward = toward_client(&mut instance_sends, &mut client_gets, farewell, shutdown);
    tokio::pin!(upward, downward);
    let too_late = async {
        shutdown.cancelled().await;
        sleep(LINGER).await;
    };
    tokio::select! {
        ended = &mut upward => { ended?; timeout(LINGER, downward).await.unwrap_or(Ok(())) }
        ended = &mut downward => { ended?; timeout(LINGER, upward).await.unwrap_or(Ok(())) }
        () = too_late => Ok(()),
    }
}

/// Passes on what the instance sends. At shutdown it closes the WebSocket at the next end of a
/// frame; the client's answering close then reaches the instance by the other direction.
async fn toward_client(
    instance: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    farewell: Bytes,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; TOWARD_CLIENT];
    loop {
        let read = tokio::select! {
            biased;
            () = shutdown.cancelled(), if frames.at_boundary() && !frames.closed() => break,
            read = instance.read(&mut buffer) => read?,
        };
        let bytes = &buffer[..read];
        if bytes.is_empty() {
            return client.shutdown().await;
        }
        let passed = if shutdown.is_cancelled() && !frames.closed() {
            frames.follow_to_boundary(bytes)
        } else {
            frames.follow(bytes);
            bytes.len()
        };
        client.write_all(&bytes[..passed]).await?;
    }
    if frames.between_messages() {
        client.write_all(&farewell).await?;
    }
    client.write_all(&frames::close(CloseReason::Shutdown.code(), "the gateway stops")).await?;
    client.flush().await?;
    // Until the instance has heard the client's close and closed for its part.
    tokio::io::copy(instance, &mut tokio::io::sink()).await?;
    client.shutdown().await
}

/// A `closing`, as a frame of the subprotocol that was agreed; nothing where we do not know it.
pub(crate) fn farewell(subprotocol: Option<&HeaderValue>) -> Bytes {
    let message = ServerMessage::Closing(Closing {
        reason: CloseReason::Shutdown,
        retry_after_ms: RETRY_AFTER_MS,
        resume_from: None,
    });
    match subprotocol {
        None => serde_json::to_string(&message).map(|text| frames::text(&text)).unwrap_or_default(),
        Some(name) if name == msgpack::PROTOCOL => frames::binary(&message.to_msgpack()),
        Some(_) => Bytes::new(),
    }
}
