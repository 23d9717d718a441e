//! The simulator's configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The simulator: a random walk, the same for the same seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// The symbols that ticks are made up for.
    pub symbols: Vec<String>,
    /// How many ticks a second, of all symbols together: 1 to 1000000.
    pub ticks_per_sec: u32,
    /// What the random walk starts from; the same seed gives the same ticks, but for their times.
    pub seed: u64,
    /// A price jumps, by 0.5 to 2.5 per cent: once in so many seconds, on average; 0 is never.
    pub jump_every_secs: u32,
    /// The market opens, with a burst of ticks: each so many seconds; 0 is never.
    pub open_every_secs: u32,
    /// How many times as many ticks there are at an open: 1 to 100. That dies away during the first
    /// tenth of the time to the next.
    pub open_burst: u32,
    /// A symbol is halted and has no ticks: once in so many seconds, on average; 0 is never.
    pub halt_every_secs: u32,
    /// How long a halt lasts, in seconds.
    pub halt_secs: u32,
    /// What is wrong with some ticks, to see it caught: `DEFECT=N` for one tick in N, `all=N` for
    /// each that is not named. The payload's field `defect` has the name. Prices: `price-times-10`,
    /// `price-times-100`, `price-tenth`, `price-hundredth`, `wrong-symbol`, `level-shift`,
    /// `price-zero`, `price-negative`, `price-text`; other fields: `size-negative`, `missing-symbol`,
    /// `missing-price`, `missing-time`, `unknown-symbol`, `halted-symbol`; times: `future`, `old`,
    /// `out-of-order`, `pre-market`, `post-market`, `closed`; whole payloads: `duplicate`, `repeat`,
    /// `cut-off`, `html`, `provider-error`, `no-columns`.
    pub defects: Vec<String>,
}

impl Default for SimConfig {
    fn default() -> Self {
        let symbols = ["AAPL", "MSFT", "GOOG", "AMZN", "NVDA", "TSLA", "BRK.B"];
        Self {
            symbols: symbols.map(str::to_owned).into(),
            ticks_per_sec: 20,
            seed: 1,
            jump_every_secs: 60,
            open_every_secs: 600,
            open_burst: 5,
            halt_every_secs: 0,
            halt_secs: 30,
            defects: Vec::new(),
        }
    }
}
