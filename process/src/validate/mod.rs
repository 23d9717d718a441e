//! From what a payload tells to a tick that can be trusted, or at least one that says why not.
//!
//! What has not the shape of a tick is rejected. Beyond that each rule is off, flags or rejects as
//! [`RulesConfig`] says. By default nothing that a provider really sent is lost: only an event of
//! the future is rejected, for it would stay the newest.

mod config;
mod history;
mod listings;
mod memory;
mod outlier;
#[cfg(test)]
mod real_day;
mod shape;
mod state;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use jiff::SignedDuration;
use schemas::{
    Flag, RawTick, Reason, Rejection, Tick,
    calendar::{Calendars, Phase},
    event_id,
};

use crate::decode::Decoded;

pub use config::{Action, RulesConfig};
pub(crate) use history::{CONFIRMED_WITHIN, Place};
pub(crate) use listings::Listings;
pub(crate) use state::State;

/// The rules that a tick must keep. They look at nothing but the event, its envelope, the [`State`]
/// and the [`Listings`], so that an event that is processed again is judged again in the same way.
pub(crate) struct Rules {
    pub(crate) config: RulesConfig,
    pub(crate) max_future: SignedDuration,
    pub(crate) calendars: Calendars,
    pub(crate) listings: Listings,
}

/// What is judged beside the event itself.
pub(crate) struct Context<'a> {
    pub(crate) raw: &'a RawTick,
    pub(crate) place: Place,
    /// An earlier session has not made the event a tick, though it did later ones: so it was
    /// rejected. That matters where what it was compared with is not known any more.
    pub(crate) was_rejected: bool,
    /// The stream has dropped the event as one that it has: it is older than the memory.
    pub(crate) is_repeat: bool,
}

/// The flags of an event so far.
struct Verdict(Vec<Flag>);

impl Verdict {
    /// An event has broken a rule.
    fn broken(
        &mut self,
        action: Action,
        flag: Flag,
        reason: Reason,
        detail: impl FnOnce() -> String,
    ) -> Result<(), Rejection> {
        match action {
            Action::Off => Ok(()),
            Action::Flag => {
                self.0.push(flag);
                Ok(())
            }
            Action::Reject => Err(Rejection::validate(reason, detail())),
        }
    }
}

/// The id of the tick that the `index`th event of a payload becomes.
pub(crate) fn tick_id(event: &Decoded, raw: &RawTick, index: usize) -> String {
    match &event.identity {
        Some(identity) => format!("{}:{}:{identity}", raw.source, event.symbol.token()),
        None => event_id(&raw.id, index),
    }
}

impl Rules {
    /// Whether rejected outliers count for what is judged later.
    pub(crate) fn rejects_outliers(&self) -> bool {
        self.config.outlier == Action::Reject
    }

    /// Those that judge by the ticks before an event, as far as they are on.
    pub(crate) fn with_memory(&self) -> Vec<&'static str> {
        let RulesConfig { outlier, out_of_order, .. } = self.config;
        let on = |action, name| (action != Action::Off).then_some(name);
        let asked = [on(out_of_order, "out_of_order"), on(outlier, "outlier")];
        [Some("duplicate")].into_iter().chain(asked).flatten().collect()
    }

    /// The tick of an event, or the rule that it breaks; the state remembers either.
    pub(crate) fn judge(
        &self,
        event: Decoded,
        context: &Context<'_>,
        state: &mut State,
    ) -> Result<Tick, Rejection> {
        let Context { raw, place, .. } = *context;
        let mut tick = Tick {
            id: tick_id(&event, raw, place.1),
            symbol: event.symbol,
            price: event.price,
            size: event.size,
            currency: event.currency,
            exchange: event.exchange,
            kind: event.kind,
            ts: event.ts,
            received_at: raw.received_at,
            source: raw.source.clone(),
            raw_seq: place.0,
            flags: Vec::new(),
        };
        match self.flags(&tick, context, state) {
            Ok(flags) => {
                tick.flags = flags;
                state.tick(&tick, place);
                Ok(tick)
            }
            Err(mut rejection) => {
                if rejection.reason == Reason::Outlier {
                    state.rejected_outlier(&tick.symbol, tick.price, place);
                }
                rejection.price = Some((tick.symbol, tick.price));
                Err(rejection)
            }
        }
    }

    fn flags(
        &self,
        tick: &Tick,
        context: &Context<'_>,
        state: &mut State,
    ) -> Result<Vec<Flag>, Rejection> {
        shape::check(tick)?;
        if context.is_repeat || state.contains(&tick.id) {
            let detail = format!("id: {} is a tick already", tick.id);
            return Err(Rejection::validate(Reason::Duplicate, detail));
        }
        let mut verdict = Verdict(Vec::new());
        self.listed(tick, &mut verdict)?;
        self.age(tick, &mut verdict)?;
        self.session(tick, state, &mut verdict)?;
        self.order(tick, state, &mut verdict)?;
        self.price(tick, context.was_rejected, state, &mut verdict)?;
        Ok(verdict.0)
    }

    fn listed(&self, tick: &Tick, verdict: &mut Verdict) -> Result<(), Rejection> {
        let (symbol, config) = (&tick.symbol, &self.config);
        if config.unknown_symbol != Action::Off && self.listings.is_unknown(symbol) {
            let detail = || format!("symbol: no source has announced {symbol}");
            let (flag, reason) = (Flag::UnknownSymbol, Reason::UnknownSymbol);
            verdict.broken(config.unknown_symbol, flag, reason, detail)?;
        }
        if config.halted != Action::Off && self.listings.is_halted(symbol) {
            let detail = || format!("symbol: trading in {symbol} is halted");
            verdict.broken(config.halted, Flag::Halted, Reason::Halted, detail)?;
        }
        Ok(())
    }

    /// Against the time of reception, not the clock: the clock says something else the next time.
    fn age(&self, tick: &Tick, verdict: &mut Verdict) -> Result<(), Rejection> {
        let (ts, config) = (tick.ts, &self.config);
        let ahead = ts.duration_since(tick.received_at);
        if ahead > self.max_future {
            let detail = || {
                let (seconds, most) = (ahead.as_secs_f64(), self.max_future.as_secs());
                format!(
                    "ts: {ts} is {seconds:.3} s after it was received; at most {most} s are allowed"
                )
            };
            verdict.broken(config.future, Flag::Future, Reason::Future, detail)?;
        }
        if config.stale != Action::Off
            && let Some(most) = config.max_age_secs(&tick.source)
            && ahead < -SignedDuration::from_secs(most.into())
        {
            let detail = || {
                let seconds = -ahead.as_secs_f64();
                format!(
                    "ts: {ts} was {seconds:.3} s old when it was received; at most {most} s are allowed"
                )
            };
            verdict.broken(config.stale, Flag::Stale, Reason::Stale, detail)?;
        }
        Ok(())
    }

    fn session(
        &self,
        tick: &Tick,
        state: &mut State,
        verdict: &mut Verdict,
    ) -> Result<(), Rejection> {
        let (ts, config) = (tick.ts, &self.config);
        if config.extended_hours == Action::Off && config.closed == Action::Off {
            return Ok(());
        }
        let calendar = self.calendars.of(&tick.source);
        let phase = state.day(calendar, ts).map_or(Phase::Closed, |day| day.phase(ts));
        let detail = |when: &dyn Display| format!("ts: {ts} is {when} of {}", calendar.as_str());
        let (action, flag, reason, when) = match phase {
            Phase::Regular => return Ok(()),
            Phase::Pre => {
                let when = "before the regular session";
                (config.extended_hours, Flag::PreMarket, Reason::ExtendedHours, when)
            }
            Phase::Post => {
                let when = "after the regular session";
                (config.extended_hours, Flag::PostMarket, Reason::ExtendedHours, when)
            }
            Phase::Closed => {
                (config.closed, Flag::Closed, Reason::Closed, "outside of the sessions")
            }
        };
        verdict.broken(action, flag, reason, || detail(&when))
    }

    fn order(&self, tick: &Tick, state: &State, verdict: &mut Verdict) -> Result<(), Rejection> {
        if self.config.out_of_order == Action::Off {
            return Ok(());
        }
        match state.newest_of(&tick.symbol, &tick.source, tick.raw_seq) {
            Some(newest) if tick.ts < newest => {
                let detail = || format!("ts: {} is before the newest, {newest}", tick.ts);
                let (flag, reason) = (Flag::OutOfOrder, Reason::OutOfOrder);
                verdict.broken(self.config.out_of_order, flag, reason, detail)
            }
            _ => Ok(()),
        }
    }

    fn price(
        &self,
        tick: &Tick,
        was_rejected: bool,
        state: &State,
        verdict: &mut Verdict,
    ) -> Result<(), Rejection> {
        if self.config.outlier == Action::Off {
            return Ok(());
        }
        let granularity = f64::from(self.config.outlier_basis_points) / 10_000.0;
        let price = tick.price.approximate().ln();
        let estimate = state.estimate(&tick.symbol, tick.ts, granularity, tick.raw_seq);
        let Some(estimate) = estimate.filter(|estimate| !estimate.allows(price)) else {
            if !was_rejected || !self.rejects_outliers() {
                return Ok(());
            }
            let detail = format!(
                "price: {} was rejected before a restart; what it was compared with is not at hand \
                 any more",
                tick.price
            );
            return Err(Rejection::validate(Reason::Outlier, detail));
        };
        let is_new_level = || state.confirms(&tick.symbol, price, granularity, tick.raw_seq);
        if !was_rejected && (estimate.has_lapsed || is_new_level()) {
            verdict.0.push(Flag::LevelShift);
            return Ok(());
        }
        let detail = || {
            let (price, away) = (tick.price, (price - estimate.level).exp());
            let (level, low, high) =
                (estimate.level.exp(), (-estimate.band).exp(), estimate.band.exp());
            format!(
                "price: {price} is {away:.3} times the median {level:.4} of the prices before; \
                 {low:.3} to {high:.3} times are expected"
            )
        };
        verdict.broken(self.config.outlier, Flag::Outlier, Reason::Outlier, detail)
    }
}
