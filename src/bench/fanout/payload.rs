//! The ticks, and what a client receives of each: from all servers the same bytes.

use std::ops::Range;

use anyhow::Result;
use jiff::Timestamp;
use schemas::{Decimal, Source, Symbol, Tick, TickKind};

use super::scenario::{Scenario, symbol_name};

const SOURCE: &str = "bench";
const EXCHANGE: &str = "SIM";
const SIZE: &str = "100";

/// Where the time stands in the text of an update, and where its sequence begins. Names, prices
/// and times are all of the same length here.
const TIME: Range<usize> = 70..100;
const SEQ_MARK: &[u8] = b"\",\"seq\":";

/// Now, with all nine digits of its nanoseconds: an odd number does not end in a zero.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_nanosecond(now.as_nanosecond() | 1).unwrap_or(now)
}

fn price(seq: u64) -> String {
    format!("{}.{:04}", 100 + seq % 900, seq % 10_000)
}

/// A tick as processing publishes it.
pub(super) fn tick(scenario: Scenario, seq: u64, now: Timestamp) -> Result<Tick> {
    Ok(Tick {
        id: format!("bench@1.{seq}"),
        symbol: Symbol::new(&symbol_name(scenario.symbol_of(seq)))?,
        price: Decimal::parse(&price(seq))?,
        size: Some(Decimal::parse(SIZE)?),
        currency: "USD".to_owned(),
        exchange: Some(EXCHANGE.to_owned()),
        kind: TickKind::Trade,
        ts: now,
        received_at: now,
        source: Source::new(SOURCE)?,
        raw_seq: seq,
        flags: Vec::new(),
    })
}

/// The update that our clients receive of that tick; the other servers are given it ready-made.
pub(super) fn price_update(scenario: Scenario, seq: u64, now: Timestamp) -> String {
    let (symbol, price) = (symbol_name(scenario.symbol_of(seq)), price(seq));
    let prev = scenario.prev(seq);
    format!(
        r#"{{"type":"price_update","data":{{"{symbol}":{{"price":{price},"timestamp":"{now}","seq":{seq},"prev":{prev},"size":{SIZE},"exchange":"{EXCHANGE}","source":"{SOURCE}"}}}}}}"#
    )
}

/// The sequence of an update; `None` where the text is none.
pub(super) fn seq_of(update: &[u8]) -> Option<u64> {
    let digits = update.get(TIME.end..)?.strip_prefix(SEQ_MARK)?;
    let mut seq = 0;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        seq = seq * 10 + u64::from(digit - b'0');
    }
    Some(seq)
}

/// When an update was published.
pub(super) fn published_at(update: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(update.get(TIME)?).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use schemas::ServerMessage;

    use super::*;

    #[test]
    fn an_update_is_one_of_the_protocol_and_read_where_it_is_expected() {
        for seq in [1, 999, 1_000, 2_345_678] {
            let now = now();
            let text = price_update(Scenario::Many, seq, now);
            let read = ServerMessage::from_json(&text).unwrap();
            let ServerMessage::PriceUpdate { data, .. } = read else { panic!("{read:?}") };
            let tick = tick(Scenario::Many, seq, now).unwrap();
            let update = &data[tick.symbol.as_str()];
            assert_eq!(update.price.get(), tick.price.to_string());
            assert_eq!((update.seq, update.timestamp), (seq, now));
            assert_eq!(seq_of(text.as_bytes()), Some(seq));
            assert_eq!(published_at(text.as_bytes()), Some(now));
        }
        assert_eq!(seq_of(br#"{"type":"heartbeat","seq":7}"#), None);
    }
}
