//! Whether a feed lives: a provider that is gone is told from one that has nothing to say.
//!
//! Whatever comes shows that the connection lives: a trade, a heartbeat, a ping, a pong. A provider
//! that is silent is pinged, and one that does not answer is gone. One that answers may still have
//! forgotten what we asked for: that shows where no symbol at all has a trade for long while its
//! market is open. Outside the regular session, and for coins that nobody may want for hours,
//! silence means nothing.

use jiff::Timestamp;
use schemas::calendar::{Calendar, Phase};
use tokio::time::Instant;

use super::Patience;
use crate::source::{ErrorKind, FetchError};

/// When something was heard last.
pub(super) struct Pulse {
    patience: Patience,
    hours: Option<Calendar>,
    heard: Instant,
    traded: Instant,
    /// Since it was silent.
    pinged: Option<Instant>,
}

/// What to do about a silence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing yet.
    Bearable,
    /// Ask whether anybody is there.
    Ping,
}

impl Pulse {
    pub(super) fn new(patience: Patience, hours: Option<Calendar>, now: Instant) -> Self {
        Self { patience, hours, heard: now, traded: now, pinged: None }
    }

    /// Anything came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// A trade came.
    pub(super) fn traded(&mut self, now: Instant) {
        self.traded = now;
    }

    /// When to [`check`](Self::check) next.
    pub(super) fn due(&self) -> Instant {
        let silent = self.pinged.unwrap_or(self.heard) + self.patience.silence;
        match self.hours {
            Some(_) => silent.min(self.traded + self.patience.trades),
            None => silent,
        }
    }

    /// Looks at the time; an error where the feed is dead. `wall` is the time of day.
    pub(super) fn check(&mut self, now: Instant, wall: Timestamp) -> Result<Silence, FetchError> {
        let Patience { silence, trades, .. } = self.patience;
        let silent = now.saturating_duration_since(self.heard);
        if self.pinged.is_some_and(|pinged| now.saturating_duration_since(pinged) >= silence) {
            let fault = format!("nothing was heard for {silent:?}, not even a pong");
            return Err(FetchError::new(ErrorKind::Timeout, fault));
        }
        if let Some(calendar) = self.hours
            && now.saturating_duration_since(self.traded) >= trades
        {
            if is_open_since(calendar, wall, trades) {
                let fault = format!("no symbol had a trade for {trades:?}, and the market is open");
                return Err(FetchError::new(ErrorKind::Timeout, fault));
            }
            self.traded = now;
        }
        if silent >= silence && self.pinged.is_none() {
            self.pinged = Some(now);
            return Ok(Silence::Ping);
        }
        Ok(Silence::Bearable)
    }
}

/// Whether the regular session has been running for so long.
fn is_open_since(calendar: Calendar, now: Timestamp, long: std::time::Duration) -> bool {
    let earlier = now.checked_sub(long).unwrap_or(now);
    [earlier, now].iter().all(|ts| calendar.at(*ts).phase == Phase::Regular)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPEN: &str = "2024-03-05T15:00:00Z";
    const JUST_OPENED: &str = "2024-03-05T14:35:00Z";
    const NIGHT: &str = "2024-03-05T03:00:00Z";

    fn check(pulse: &mut Pulse, now: Instant, wall: &str) -> Result<Silence, String> {
        pulse.check(now, wall.parse().unwrap()).map_err(|error| error.message)
    }

    #[test]
    fn a_silent_provider_is_pinged_and_then_gone() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut pulse = Pulse::new(Patience::default(), None, start);
        assert_eq!(pulse.due(), after(15));
        assert_eq!(check(&mut pulse, after(14), NIGHT), Ok(Silence::Bearable));
        assert_eq!(check(&mut pulse, after(15), NIGHT), Ok(Silence::Ping));
        assert_eq!(pulse.due(), after(30));
        assert_eq!(check(&mut pulse, after(29), NIGHT), Ok(Silence::Bearable));
        assert!(check(&mut pulse, after(30), NIGHT).unwrap_err().contains("not even a pong"));
        // A pong is enough.
        pulse.heard(after(20));
        assert_eq!(pulse.due(), after(35));
        assert_eq!(check(&mut pulse, after(30), NIGHT), Ok(Silence::Bearable));
    }

    #[test]
    fn a_stock_feed_without_trades_is_stale_in_market_hours_and_quiet_otherwise() {
        let start = Instant::now();
        let hours = Some(Calendar::UsEquities);
        let after = start + Patience::default().trades;
        let pulse = || {
            let mut pulse = Pulse::new(Patience::default(), hours, start);
            pulse.heard(after);
            pulse
        };
        assert!(check(&mut pulse(), after, OPEN).unwrap_err().contains("the market is open"));
        assert_eq!(check(&mut pulse(), after, NIGHT), Ok(Silence::Bearable));
        assert_eq!(check(&mut pulse(), after, JUST_OPENED), Ok(Silence::Bearable));
        let mut traded = pulse();
        traded.traded(after - Duration::from_secs(1));
        assert_eq!(check(&mut traded, after, OPEN), Ok(Silence::Bearable));
        let mut coins = Pulse::new(Patience::default(), None, start);
        coins.heard(after);
        assert_eq!(check(&mut coins, after, OPEN), Ok(Silence::Bearable));
    }
}
