//! From before a payload is published until its tick is received.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::Client;
use nats::{Broker, Start, topology::Stream};
use schemas::headers;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::rig::{Rig, publish};
use crate::bench::statistics::Quantiles;

/// Between two payloads.
const PACE: Duration = Duration::from_millis(1);
/// The first are not counted: everything is new to everybody.
const WARM_UP: usize = 500;
const PATIENCE: Duration = Duration::from_secs(20);

/// Publishes the payloads one after the other, and times their ticks.
pub(super) async fn measure(rig: &Rig, payloads: &[String]) -> Result<Quantiles> {
    let mut reader = rig.broker.reader(Stream::Ticks, &[], Start::Sequence(1)).await?;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = Vec::with_capacity(payloads.len());
    let mut delays = Vec::with_capacity(payloads.len());
    let mut received = 0;
    while received < payloads.len() {
        tokio::select! {
            biased;
            message = timeout(PATIENCE, reader.next()) => {
                let message = message.context("no tick comes")??;
                let now = Instant::now();
                let sequence = message.header(headers::RAW_SEQUENCE).context("no raw sequence")?;
                let place = sequence.parse::<usize>()?.saturating_sub(1);
                ensure!(place == received, "a tick is lost, doubled or swapped");
                let since = published.get(place).context("a tick before its payload")?;
                delays.push(now.duration_since(*since));
                received += 1;
            }
            _ = pace.tick(), if published.len() < payloads.len() => {
                let number = published.len();
                published.push(Instant::now());
                let payload = payloads.get(number).context("there are more")?;
                publish(&rig.client, number, payload).await?;
            }
        }
    }
    Ok(Quantiles::of(delays.get_mut(WARM_UP.min(payloads.len() / 2)..).unwrap_or_default()))
}

/// Publishes the payloads again and again, some 5,000 a second, for a time. How many.
pub(super) async fn publish_for(
    client: Client,
    payloads: Vec<String>,
    duration: Duration,
) -> Result<usize> {
    const AT_ONCE: usize = 50;
    let since = Instant::now();
    let mut pace = interval(PACE * 10);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rows = (0..).zip(payloads.iter().cycle());
    let mut count = 0;
    while since.elapsed() < duration {
        pace.tick().await;
        for (number, row) in rows.by_ref().take(AT_ONCE) {
            publish(&client, number, row).await?;
            count += 1;
        }
    }
    client.flush().await?;
    Ok(count)
}
