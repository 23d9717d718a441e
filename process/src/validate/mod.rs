//! From what a payload tells to a tick that can be trusted.

mod memory;

use jiff::{SignedDuration, Timestamp};
use schemas::{RawTick, Reason, Rejection, Tick, event_id};
use validator::{Validate, ValidationError, ValidationErrors};

use crate::decode::Decoded;

pub(crate) use memory::Memory;

/// The rules that a tick must keep. They look at nothing but the event, its envelope and the ticks
/// before it, so that an event that is processed again is judged again in the same way.
pub(crate) struct Rules {
    pub(crate) max_future: SignedDuration,
}

impl Rules {
    /// The tick of an event, or the rule that it breaks. Ids are remembered by whoever stores.
    pub(crate) fn tick(
        &self,
        event: Decoded,
        index: usize,
        raw: &RawTick,
        raw_seq: u64,
        memory: &Memory,
    ) -> Result<Tick, Rejection> {
        let tick = Tick {
            id: event_id(&raw.id, index),
            symbol: event.symbol,
            price: event.price,
            size: event.size,
            currency: event.currency,
            exchange: event.exchange,
            kind: event.kind,
            ts: event.ts,
            received_at: raw.received_at,
            source: raw.source.clone(),
            raw_seq,
        };
        tick.validate().map_err(|faults| invalid(&faults))?;
        self.not_in_the_future(tick.ts, tick.received_at)?;
        if memory.contains(&tick.id) {
            return Err(duplicate(&tick.id));
        }
        Ok(tick)
    }

    /// Against the time of reception, not the clock: the clock says something else the next time.
    fn not_in_the_future(&self, ts: Timestamp, received_at: Timestamp) -> Result<(), Rejection> {
        let ahead = ts.duration_since(received_at);
        if ahead <= self.max_future {
            return Ok(());
        }
        let detail = format!(
            "ts: {ts} is {:.3} s after it was received; at most {} s are allowed",
            ahead.as_secs_f64(),
            self.max_future.as_secs()
        );
        Err(Rejection::validate(Reason::Future, detail))
    }
}

/// The event with this id is in `TICKS` already.
pub(crate) fn duplicate(id: &str) -> Rejection {
    Rejection::validate(Reason::Duplicate, format!("id: {id} is a tick already"))
}

/// Names every field at fault, in alphabetical order.
fn invalid(faults: &ValidationErrors) -> Rejection {
    let mut fields: Vec<String> = faults
        .field_errors()
        .into_iter()
        .flat_map(|(field, faults)| faults.iter().map(move |fault| describe(&field, fault)))
        .collect();
    fields.sort_unstable();
    Rejection::validate(Reason::InvalidField, fields.join("; "))
}

fn describe(field: &str, fault: &ValidationError) -> String {
    if let Some(message) = &fault.message {
        return format!("{field}: {message}");
    }
    let param = |name: &str| fault.params.get(name).map(ToString::to_string).unwrap_or_default();
    format!(
        "{field}: {} must be {} to {} characters long",
        param("value"),
        param("min"),
        param("max")
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schemas::{Decimal, Format, Source, Symbol, TickKind};

    use super::*;

    const RULES: Rules = Rules { max_future: SignedDuration::from_secs(5) };

    fn raw() -> RawTick {
        RawTick {
            id: "e1".into(),
            source: Source::new("sim").unwrap(),
            symbol: None,
            received_at: "2024-01-01T00:00:00Z".parse().unwrap(),
            content_type: "application/json".into(),
            format: Format::Sim,
            columns: None,
            body: Bytes::new(),
        }
    }

    fn event() -> Decoded {
        Decoded {
            symbol: Symbol::new("AAPL").unwrap(),
            price: Decimal::parse("1.50").unwrap(),
            size: None,
            currency: "USD".into(),
            exchange: None,
            kind: TickKind::Trade,
            ts: "2024-01-01T00:00:05Z".parse().unwrap(),
        }
    }

    fn judge(event: Decoded) -> Result<Tick, Rejection> {
        RULES.tick(event, 0, &raw(), 7, &Memory::new(10))
    }

    #[test]
    fn a_right_event_becomes_a_tick() {
        let tick = judge(event()).unwrap();
        assert_eq!((tick.id.as_str(), tick.raw_seq), ("e1.0", 7));
    }

    #[test]
    fn a_wrong_shape_names_field_and_value() {
        let free = Decoded { price: Decimal::ZERO, exchange: Some(String::new()), ..event() };
        let rejection = judge(free).unwrap_err();
        assert_eq!(rejection.reason, Reason::InvalidField);
        assert_eq!(
            rejection.detail,
            "exchange: \"\" must be 1 to 64 characters long; price: 0 must be greater than zero"
        );
    }

    #[test]
    fn an_event_of_the_future_is_refused() {
        let ts = "2024-01-01T00:00:05.000000001Z".parse().unwrap();
        let rejection = judge(Decoded { ts, ..event() }).unwrap_err();
        assert_eq!(rejection.reason, Reason::Future);
        assert!(rejection.detail.starts_with("ts: 2024-01-01T00:00:05.000000001Z"));
        assert!(judge(Decoded { ts: Timestamp::MIN, ..event() }).is_ok());
        assert!(judge(Decoded { ts: Timestamp::MAX, ..event() }).is_err());
    }

    #[test]
    fn an_event_that_is_a_tick_already_is_refused() {
        let mut memory = Memory::new(10);
        memory.remember("e1.0");
        let rejection = RULES.tick(event(), 0, &raw(), 7, &memory).unwrap_err();
        assert_eq!(rejection.reason, Reason::Duplicate);
        assert!(RULES.tick(event(), 1, &raw(), 7, &memory).is_ok());
    }
}
