//! The metrics of the candles: `lizards_process_candle*`.

use metrics::{Counter, counter, describe_counter};
use schemas::CandleInterval;

use super::series::Outcome;

/// Handles, looked up once.
pub(super) struct Metrics {
    counted: Counter,
    late: Counter,
    inexact: Counter,
    crowded: Counter,
    other: Counter,
    unreadable: Counter,
    closed: [Counter; CandleInterval::ALL.len()],
    restated: [Counter; CandleInterval::ALL.len()],
    restarts: Counter,
}

impl Metrics {
    pub(super) fn register() -> Self {
        describe_counter!(
            "lizards_process_candle_ticks_total",
            "Ticks read to make candles, by what became of them: counted, late for a candle, inexact, crowded (of too many symbols), other (quotes, bars, and trades of the future), unreadable."
        );
        describe_counter!("lizards_process_candles_closed_total", "Candles closed, by interval.");
        describe_counter!(
            "lizards_process_candles_restated_total",
            "Closed candles published again because a trade came late, by interval."
        );
        describe_counter!(
            "lizards_process_candle_restarts_total",
            "Sessions that ended early and were started anew."
        );
        let ticks = |outcome| counter!("lizards_process_candle_ticks_total", "outcome" => outcome);
        Self {
            counted: ticks("counted"),
            late: ticks("late"),
            inexact: ticks("inexact"),
            crowded: ticks("crowded"),
            other: ticks("other"),
            unreadable: ticks("unreadable"),
            closed: CandleInterval::ALL.map(
                |interval| counter!("lizards_process_candles_closed_total", "interval" => interval.as_str()),
            ),
            restated: CandleInterval::ALL.map(
                |interval| counter!("lizards_process_candles_restated_total", "interval" => interval.as_str()),
            ),
            restarts: counter!("lizards_process_candle_restarts_total"),
        }
    }

    pub(super) fn taken(&self, outcome: Outcome) {
        match outcome {
            Outcome::Counted => self.counted.increment(1),
            Outcome::Late => self.late.increment(1),
            Outcome::Inexact => self.inexact.increment(1),
            Outcome::Crowded => self.crowded.increment(1),
        }
    }

    /// A tick that is no trade.
    pub(super) fn other(&self) {
        self.other.increment(1);
    }

    /// A message that is no tick.
    pub(super) fn unreadable(&self) {
        self.unreadable.increment(1);
    }

    /// A revision is stored.
    pub(super) fn stored(&self, interval: CandleInterval, revision: u32) {
        let counters = if revision == 1 { &self.closed } else { &self.restated };
        counters[interval as usize].increment(1);
    }

    /// A session ended early.
    pub(super) fn restarted(&self) {
        self.restarts.increment(1);
    }
}
