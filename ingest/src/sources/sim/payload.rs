//! How a tick is written, whole or with a defect.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use schemas::{
    Format,
    calendar::{Calendar, Day},
    rfc3339_nanos,
};

use super::defects::Defect;

/// A tick before it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a> {
    pub(super) symbol: &'a str,
    pub(super) cents: u64,
    /// The price of another symbol.
    pub(super) foreign_cents: u64,
    pub(super) size: u32,
    pub(super) ts: Timestamp,
    /// The event time of the tick of its symbol before it.
    pub(super) before: Timestamp,
    pub(super) n: u64,
    /// What tells the trade from all others, where that is told.
    pub(super) trade: Option<&'a str>,
}

impl Payload<'_> {
    /// What the payload claims to be.
    pub(super) fn format(defect: Option<Defect>) -> Format {
        match defect {
            Some(Defect::NoColumns) => Format::CsvRow,
            Some(Defect::ProviderError) => Format::AlphaVantageQuote,
            _ => Format::Sim,
        }
    }

    /// The JSON; the price is written from its cents, digit by digit.
    pub(super) fn json(&self, defect: Option<Defect>) -> Bytes {
        let name = defect.map_or("", Defect::name);
        let text = match defect {
            Some(Defect::Html) => {
                format!("<html><body>{{\"defect\":\"{name}\"}} 502 Bad Gateway</body></html>")
            }
            Some(Defect::ProviderError) => {
                format!(
                    r#"{{"defect":"{name}","Information":"There are no more requests today."}}"#
                )
            }
            Some(Defect::CutOff) => {
                let mut whole = self.object(defect, name);
                whole.truncate(whole.len() - 10);
                whole
            }
            _ => self.object(defect, name),
        };
        text.into()
    }

    fn object(&self, defect: Option<Defect>, name: &str) -> String {
        let Self { n, size, .. } = *self;
        let mut fields = Vec::with_capacity(8);
        if defect.is_some() {
            fields.push(format!(r#""defect":"{name}""#));
        }
        if defect != Some(Defect::MissingSymbol) {
            // A string always becomes JSON.
            let symbol = serde_json::to_string(self.symbol).unwrap_or_default();
            fields.push(format!(r#""symbol":{symbol}"#));
        }
        if let Some(price) = self.price(defect) {
            fields.push(format!(r#""price":{price}"#));
        }
        let minus = if defect == Some(Defect::SizeNegative) { "-" } else { "" };
        fields.push(format!(r#""size":{minus}{size},"currency":"USD","exchange":"SIM""#));
        if let Some(ts) = self.time(defect) {
            fields.push(format!(r#""ts":"{}""#, rfc3339_nanos(ts)));
        }
        if let Some(trade) = self.trade {
            fields.push(format!(r#""trade":"{trade}""#));
        }
        fields.push(format!(r#""n":{n}"#));
        format!("{{{}}}", fields.join(","))
    }

    fn price(&self, defect: Option<Defect>) -> Option<String> {
        let dollars = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        let cents = self.cents;
        Some(match defect {
            Some(Defect::MissingPrice) => return None,
            Some(Defect::PriceText) => r#""N/A""#.to_owned(),
            Some(Defect::PriceZero) => dollars(0),
            Some(Defect::PriceNegative) => format!("-{}", dollars(cents)),
            Some(Defect::PriceTimes10) => dollars(cents * 10),
            Some(Defect::PriceTimes100) => dollars(cents * 100),
            Some(Defect::PriceTenth) => dollars((cents / 10).max(1)),
            Some(Defect::PriceHundredth) => dollars((cents / 100).max(1)),
            Some(Defect::WrongSymbol) => dollars(self.foreign_cents),
            _ => dollars(cents),
        })
    }

    fn time(&self, defect: Option<Defect>) -> Option<Timestamp> {
        let moved = |from: Timestamp, by| from.checked_add(by).unwrap_or(from);
        let of_an_earlier_day =
            |time: fn(Day) -> Timestamp| earlier_day(self.ts).map_or(self.ts, time);
        Some(match defect {
            Some(Defect::MissingTime) => return None,
            Some(Defect::Future) => moved(self.ts, SignedDuration::from_hours(1)),
            Some(Defect::Old) => moved(self.ts, SignedDuration::from_hours(-240)),
            Some(Defect::OutOfOrder) => moved(self.before, SignedDuration::from_millis(-1)),
            Some(Defect::PreMarket) => of_an_earlier_day(|day| day.opens),
            Some(Defect::PostMarket) => of_an_earlier_day(|day| day.close),
            Some(Defect::Closed) => of_an_earlier_day(|day| day.closes),
            _ => self.ts,
        })
    }
}

/// The newest trading day in New York that was over a day ago.
fn earlier_day(now: Timestamp) -> Option<Day> {
    let calendar = Calendar::UsEquities;
    let day_ago = now.checked_sub(SignedDuration::from_hours(24)).ok()?;
    let mut date = calendar.date(day_ago);
    // No market is closed for so long.
    for _ in 0..30 {
        if let Some(day) = calendar.day(date).filter(|day| day.closes < day_ago) {
            return Some(day);
        }
        date = date.yesterday().ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::text;

    const PAYLOAD: Payload<'static> = Payload {
        symbol: "A\"B",
        cents: 12_305,
        foreign_cents: 40_000,
        size: 7,
        // A Monday.
        ts: Timestamp::constant(1_704_067_200, 500_000_000),
        before: Timestamp::constant(1_704_067_200, 0),
        n: 4,
        trade: None,
    };

    #[test]
    fn payloads_are_written_exactly() {
        let json = |defect| text(&PAYLOAD.json(defect)).to_owned();
        let clean = r#"{"symbol":"A\"B","price":123.05,"size":7,"currency":"USD","exchange":"SIM","ts":"2024-01-01T00:00:00.500000000Z","n":4}"#;
        assert_eq!(json(None), clean);
        let time = "2024-01-01T00:00:00.500000000Z";
        for (defect, old, new) in [
            (Defect::PriceTimes100, "123.05", "12305.00"),
            (Defect::PriceTenth, "123.05", "12.30"),
            (Defect::WrongSymbol, "123.05", "400.00"),
            (Defect::PriceText, "123.05", "\"N/A\""),
            (Defect::PriceNegative, "123.05", "-123.05"),
            (Defect::SizeNegative, ":7,", ":-7,"),
            (Defect::Future, "T00:00:00.5", "T01:00:00.5"),
            (Defect::Old, "2024-01-01", "2023-12-22"),
            (Defect::OutOfOrder, "2024-01-01T00:00:00.500", "2023-12-31T23:59:59.999"),
            // The Friday before: the Sunday was less than a day ago, and no trading day.
            (Defect::PreMarket, time, "2023-12-29T09:00:00.000000000Z"),
            (Defect::PostMarket, time, "2023-12-29T21:00:00.000000000Z"),
            (Defect::Closed, time, "2023-12-30T01:00:00.000000000Z"),
            (Defect::MissingPrice, "\"price\":123.05,", ""),
            (Defect::MissingSymbol, "\"symbol\":\"A\\\"B\",", ""),
            (Defect::CutOff, "0Z\",\"n\":4}", ""),
            (Defect::Duplicate, "", ""),
        ] {
            let marked = format!(r#"{{"defect":"{}",{}"#, defect.name(), &clean[1..]);
            assert_eq!(json(Some(defect)), marked.replacen(old, new, 1));
        }
        assert!(json(Some(Defect::Html)).contains(r#""defect":"html""#));
        let told = text(&Payload { trade: Some("5:9"), ..PAYLOAD }.json(None)).to_owned();
        assert!(told.ends_with(r#""trade":"5:9","n":4}"#), "{told}");
    }
}
