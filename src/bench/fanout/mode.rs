//! The ways in which ticks come.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::{scenario::Scenario, target::Target};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// One tick at a time, the next when all clients have it: a system call for each delivery
    Paced,
    /// Twenty ticks at once, 40,000 deliveries a second in all
    Bursts,
    /// As many as come through
    Flat,
    /// 1,000 symbols, 20 per client, 20,000 ticks a second in all; ours may hold back for 5 ms
    Coalesced,
    /// One tick at a time at a rate that all can hold: how long it takes
    Latency,
    /// Bursts, without and with a client that stops reading
    Slow,
    /// Connections that do nothing: memory
    Idle,
}

/// When what is published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// How many ticks at once.
    pub(super) batch: u64,
    /// How often; what could not be kept to is made up for.
    pub(super) every: Duration,
    /// How many ticks the slowest client may stay behind, before the next ones wait for it. No
    /// server drops anything for that.
    pub(super) window: u64,
    /// Every so manieth update, clients look how long it took; never where it is 0.
    pub(super) sample: u64,
}

impl Mode {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::Bursts => "bursts",
            Self::Flat => "flat",
            Self::Coalesced => "coalesced",
            Self::Latency => "latency",
            Self::Slow => "slow",
            Self::Idle => "idle",
        }
    }

    /// What the clients follow.
    pub(super) fn scenario(self) -> Scenario {
        match self {
            Self::Coalesced => Scenario::Many,
            _ => Scenario::One,
        }
    }

    /// With how many clients it is measured, unless others are asked for.
    pub(super) fn clients(self) -> &'static [u64] {
        match self {
            Self::Paced | Self::Flat => &[100, 1_000, 5_000],
            Self::Bursts => &[100],
            Self::Coalesced => &[100, 1_000],
            Self::Latency | Self::Slow => &[1_000],
            Self::Idle => &[10_000],
        }
    }

    /// Whether it says anything of a target. The floor has no answer to a client that does not
    /// read, and keeps nothing for one that is idle.
    pub(super) fn suits(self, target: Target) -> bool {
        let is_floor = matches!(target, Target::Floor | Target::Tasks | Target::Ring);
        !(is_floor && matches!(self, Self::Slow | Self::Idle))
    }

    /// How long ours may hold an update back, in milliseconds, where that is not to be as
    /// configured.
    pub(super) fn coalesce_ms(self) -> Option<u64> {
        match self {
            Self::Paced => Some(0),
            Self::Coalesced => Some(5),
            _ => None,
        }
    }

    /// When what is published to so many clients.
    pub(super) fn pattern(self, clients: u64) -> Pattern {
        const SAMPLE: u64 = 8;
        // Half of what waits for one client in ours before it is closed as too slow.
        let window = 512 * self.scenario().symbols() / self.scenario().per_client();
        let micros = |each: u64| Duration::from_micros(clients * each);
        match self {
            Self::Paced => {
                let every = micros(20).max(Duration::from_millis(2));
                Pattern { batch: 1, every, window: 1, sample: SAMPLE }
            }
            Self::Bursts => Pattern { batch: 20, every: micros(500), window, sample: SAMPLE },
            Self::Flat => Pattern { batch: 64, every: Duration::ZERO, window, sample: 0 },
            Self::Coalesced => {
                Pattern { batch: 20, every: Duration::from_millis(1), window, sample: SAMPLE }
            }
            Self::Latency | Self::Idle => {
                Pattern { batch: 1, every: micros(50), window, sample: SAMPLE }
            }
            Self::Slow => Pattern { batch: 20, every: micros(50), window, sample: SAMPLE },
        }
    }
}
