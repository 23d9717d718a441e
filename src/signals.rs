//! How a person or a supervisor asks the process to stop.

use std::process;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Cancels the token at the first SIGINT or SIGTERM, and ends the process at the second.
pub(crate) fn watch(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut received = async move || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        received().await;
        info!("stopping: draining what is in flight; once more to stop at once");
        shutdown.cancel();
        received().await;
        process::exit(130);
    });
    Ok(())
}
