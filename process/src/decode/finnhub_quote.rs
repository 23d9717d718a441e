//! The answer of Finnhub's `/quote`: <https://finnhub.io/docs/api/quote>.
//!
//! It does not name its symbol, which is that of the envelope. A symbol that nobody knows is answered
//! with zeros.

use schemas::{RawTick, TickKind};
use serde::Deserialize;

use super::{
    Decoded, Event, bars, invalid,
    json::{self, Field},
    missing,
};

#[derive(Deserialize)]
struct Payload<'a> {
    /// The newest price.
    #[serde(borrow, rename = "c")]
    price: Field<'a>,
    #[serde(borrow, rename = "t")]
    time: Field<'a>,
}

pub(super) fn decode(raw: &RawTick, currency: &str) -> Event {
    let payload: Payload<'_> = json::object(&raw.body)?;
    let symbol = raw.symbol.clone().ok_or_else(|| missing("symbol", &" in the envelope"))?;
    let price = json::number("c", payload.price)?;
    let ts = bars::epoch_seconds("t", &"", payload.time)?;
    if ts.as_second() == 0 {
        return Err(invalid("t", &"", "it is 0, as for an unknown symbol"));
    }
    Ok(Decoded {
        identity: Some(bars::identity("quote", ts, &price, None)),
        symbol,
        price,
        size: None,
        currency: currency.to_owned(),
        exchange: None,
        kind: TickKind::Quote,
        ts,
    })
}
