//! What came of a raw message.

use std::time::Duration;

use anyhow::Result;
use nats::{Broker, Message, Reader, Start, topology::Stream};
use schemas::headers;
use tokio::time::{Instant, timeout_at};

use super::retries::Retry;

/// How long the processing may take, and how long its other events after the first.
const PATIENCE: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_millis(500);

/// In words: how many ticks and rejections; nothing where none has come in time.
pub(super) async fn of(broker: &dyn Broker, retry: &Retry, raw_seq: u64) -> Result<Option<String>> {
    let reader =
        async |stream, behind: u64| broker.reader(stream, &[], Start::Sequence(behind + 1)).await;
    let mut ticks: Box<dyn Reader> = reader(Stream::Ticks, retry.ticks).await?;
    let mut rejected: Box<dyn Reader> = reader(Stream::Rejected, retry.rejected).await?;
    let is_ours = |message: &Message| {
        message.header(headers::RAW_SEQUENCE).and_then(|seq| seq.parse().ok()) == Some(raw_seq)
    };
    let (mut made, mut reasons) = (0, Vec::new());
    let mut deadline = Instant::now() + PATIENCE;
    loop {
        let next = async {
            tokio::select! {
                message = ticks.next() => message,
                message = rejected.next() => message,
            }
        };
        let Ok(message) = timeout_at(deadline, next).await else { break };
        let message = message?;
        if !is_ours(&message) {
            continue;
        }
        match message.header(headers::REASON) {
            None => made += 1,
            Some(reason) => reasons.push(format!("{reason} ({})", message.sequence)),
        }
        deadline = Instant::now() + QUIET;
    }
    Ok(match (made, reasons.len()) {
        (0, 0) => None,
        (1, 0) => Some("is a tick now".to_owned()),
        (_, 0) => Some(format!("are {made} ticks now")),
        (0, _) => Some(format!("rejected again: {}", reasons.join(", "))),
        _ => Some(format!("are {made} ticks now; rejected again: {}", reasons.join(", "))),
    })
}
