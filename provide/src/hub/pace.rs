//! The clock of a replay that plays the past as it was, or so many times as fast.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::Frame;

/// How long a replay with nothing to play waits before it looks again.
const IDLE: Duration = Duration::from_millis(100);

/// Hands out frames at the times at which the stream stored them, on a clock that runs `speed`
/// times as fast as it did then. The clock starts with the first frame.
#[derive(Debug)]
pub(super) struct Pace {
    speed: u32,
    /// When the clock was started, and what it showed.
    start: Option<(Instant, Timestamp)>,
    /// Fetched, but not due all of it. At most what one fetch brings.
    ahead: VecDeque<Arc<Frame>>,
}

impl Pace {
    pub(super) fn new(speed: u32) -> Self {
        Self { speed, start: None, ahead: VecDeque::new() }
    }

    /// These come next.
    pub(super) fn fetched(&mut self, frames: Vec<Arc<Frame>>) {
        if let (None, Some(first)) = (self.start, frames.first()) {
            self.start = Some((Instant::now(), first.stored_at));
        }
        self.ahead.extend(frames);
    }

    /// The first frame that was fetched and not handed out.
    pub(super) fn next(&self) -> Option<&Arc<Frame>> {
        self.ahead.front()
    }

    /// Takes out what is due.
    pub(super) fn take_due(&mut self) -> Vec<Arc<Frame>> {
        let now = self.now();
        let due = self.ahead.partition_point(|frame| frame.stored_at <= now);
        self.ahead.drain(..due).collect()
    }

    /// Does its clock show the present?
    pub(super) fn has_caught_up(&self) -> bool {
        self.start.is_some() && self.now() >= Timestamp::now()
    }

    /// Waits until the next frame is due, or a little where there is none. Cancel safe.
    pub(super) async fn wait(&self) {
        let next = self.ahead.front().map(|next| next.stored_at.duration_since(self.now()));
        let wait = next.map(|it| Duration::try_from(it).unwrap_or_default() / self.speed);
        tokio::time::sleep(wait.unwrap_or(IDLE)).await;
    }

    fn now(&self) -> Timestamp {
        let Some((started, showed)) = self.start else { return Timestamp::MIN };
        showed
            .saturating_add(started.elapsed().saturating_mul(self.speed))
            .unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{Encoder, tests::message},
        *,
    };

    #[tokio::test(start_paused = true)]
    async fn it_plays_as_it_was_only_faster() {
        let mut encoder = Encoder::default();
        // The test stream stores one a second.
        let frames = (1..=4).map(|at| encoder.encode(&message("A", "1", at)).unwrap()).collect();
        let mut pace = Pace::new(10);
        assert!(pace.take_due().is_empty() && !pace.has_caught_up());
        pace.fetched(frames);
        let began = Instant::now();
        let mut played = Vec::new();
        while pace.next().is_some() {
            let sequences = pace.take_due().into_iter().map(|frame| frame.sequence);
            played.extend(sequences.map(|sequence| (sequence, began.elapsed().as_millis() / 10)));
            pace.wait().await;
        }
        assert_eq!(played, [(1, 0), (2, 10), (3, 20), (4, 30)]);
        assert!(!pace.has_caught_up(), "that was in 2023");
    }
}
