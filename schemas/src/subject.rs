//! The subjects of the pipeline and the names of its streams and buckets, in one place.

use crate::{CandleInterval, MANY_SYMBOLS, Reason, Source, Symbol};

/// The stream of provider payloads, byte for byte.
pub const TICKS_RAW: &str = "TICKS_RAW";
/// The stream of normalised ticks.
pub const TICKS: &str = "TICKS";
/// The stream of what could not be used, with the reason.
pub const TICKS_REJECTED: &str = "TICKS_REJECTED";
/// The stream of closed candles.
pub const CANDLES: &str = "CANDLES";
/// The stream of alerts.
pub const ALERTS: &str = "ALERTS";

/// Everything in [`TICKS_RAW`].
pub const ALL_RAW: &str = "ticks.raw.>";
/// Everything in [`TICKS`].
pub const ALL_TICKS: &str = "ticks.norm.*";
/// Everything in [`TICKS_REJECTED`].
pub const ALL_REJECTED: &str = "ticks.rejected.>";
/// Everything in [`CANDLES`].
pub const ALL_CANDLES: &str = "candles.*.*";
/// Candles that are running, on their way to whoever listens: no stream stores them.
pub const ALL_RUNNING_CANDLES: &str = "candles.running.*.*";

/// Everything in [`ALERTS`].
pub const ALL_ALERTS: &str = "alerts.*";

/// The KV bucket of the newest tick per symbol.
pub const LAST_PRICE: &str = "last_price";
/// The KV bucket of live instances.
pub const REGISTRY: &str = "registry";
/// The KV bucket of what may change while running.
pub const CONFIG: &str = "config";
/// The KV bucket of the candles that are running: what their maker goes on from.
pub const CANDLE_STATE: &str = "candles";
/// The KV bucket of the rules that people have set, with the secrets of their webhooks.
pub const ALERT_RULES: &str = "alerts";
/// The KV bucket of how each rule stands: what their judge goes on from.
pub const ALERT_STATE: &str = "alert_state";
/// The KV bucket of what became of each rule's newest alerts.
pub const ALERT_DELIVERIES: &str = "alert_deliveries";
/// The KV bucket of leases: who owns a source, the processing, the store's writing.
pub const LEASES: &str = "leases";
/// The KV bucket of reports: how each instance of `ingest` says that its sources are.
pub const SOURCES: &str = "sources";
/// The KV bucket of quotas: what each account with a provider was asked for.
pub const QUOTAS: &str = "quotas";
/// The KV bucket of positions: how far each partition of the processing is.
pub const POSITIONS: &str = "positions";

/// The KV bucket of rejections that were tried again.
pub const RETRIES: &str = "retries";

/// The key in [`CONFIG`] of the symbols that sources say they will deliver.
pub const SYMBOLS_KEY: &str = "symbols";

/// The key in [`CONFIG`] of the symbols whose trading is halted, which an operator writes.
pub const HALTED_KEY: &str = "halted";

/// Where `process` answers what a payload would become.
pub const DRY_RUN: &str = "lizards.process.dry_run";

/// Where an instance of `process` answers what it would make of the events of its own partitions.
pub fn dry_run_of(instance: &str) -> String {
    format!("{DRY_RUN}.{instance}")
}

/// What the subject of a payload that is tried again begins with.
pub const RETRY_PREFIX: &str = "ticks.raw.retry.";

const TICK_PREFIX: &str = "ticks.norm.";
const SETTING_PREFIX: &str = "sources.";

/// The name of a source as a part of a key in a bucket. Keys take no colon: it becomes `=3A`, as in
/// the subject token of a symbol.
pub fn key_of(source: &Source) -> String {
    source.as_str().replace(':', "=3A")
}

/// A host, as the scheme, the name and the port of its addresses, as a part of a key in a bucket. What
/// keys do not take becomes `=` and two hexadecimal digits.
pub fn key_of_host(origin: &str) -> String {
    let mut key = String::with_capacity(origin.len());
    for byte in origin.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => {
                key.push(char::from(byte));
            }
            _ => key.push_str(&format!("={byte:02X}")),
        }
    }
    key
}

/// The key in [`CONFIG`] of what was changed of a source.
pub fn setting_of(source: &Source) -> String {
    format!("{SETTING_PREFIX}{}", key_of(source))
}

/// The source of a key that [`setting_of`] wrote.
pub fn source_of_setting(key: &str) -> Option<Source> {
    Source::new(&key.strip_prefix(SETTING_PREFIX)?.replace("=3A", ":")).ok()
}

/// Where a raw payload goes; `None` is a payload of many symbols.
pub fn raw(source: &Source, symbol: Option<&Symbol>) -> String {
    match symbol {
        Some(symbol) => format!("ticks.raw.{source}.{}", symbol.token()),
        None => format!("ticks.raw.{source}.{MANY_SYMBOLS}"),
    }
}

/// Where a payload goes that is tried again, by the subject it had: it keeps its last token, and so
/// its partition, and is of no source, so that no source takes it for its own newest.
pub fn retry(raw_subject: &str) -> String {
    format!("{RETRY_PREFIX}{}", raw_subject.rsplit('.').next().unwrap_or(MANY_SYMBOLS))
}

/// Everything raw of one source.
pub fn all_raw_of(source: &Source) -> String {
    format!("ticks.raw.{source}.*")
}

/// Where the ticks of a symbol go.
pub fn tick(symbol: &Symbol) -> String {
    format!("{TICK_PREFIX}{}", symbol.token())
}

/// The symbol of a subject that [`tick`] wrote.
pub fn symbol_of_tick(subject: &str) -> Option<Symbol> {
    Symbol::from_token(subject.strip_prefix(TICK_PREFIX)?).ok()
}

/// The symbol of a subject that [`raw`] wrote; `None` is a payload of many symbols, or no raw
/// subject at all.
pub fn symbol_of_raw(subject: &str) -> Option<Symbol> {
    let mut tokens = subject.strip_prefix("ticks.raw.")?.split('.');
    let (_source, symbol) = (tokens.next()?, tokens.next()?);
    if tokens.next().is_some() || symbol == MANY_SYMBOLS {
        return None;
    }
    Symbol::from_token(symbol).ok()
}

/// Where a rejected payload goes.
pub fn rejected(source: &Source, reason: Reason) -> String {
    format!("ticks.rejected.{source}.{reason}")
}

/// Where the closed candles of a symbol go.
pub fn candle(interval: CandleInterval, symbol: &Symbol) -> String {
    format!("candles.{interval}.{}", symbol.token())
}

/// Where the running candles of a symbol go.
pub fn running_candle(interval: CandleInterval, symbol: &Symbol) -> String {
    format!("candles.running.{interval}.{}", symbol.token())
}

/// Where the alerts about a symbol go.
pub fn alert(symbol: &Symbol) -> String {
    format!("alerts.{}", symbol.token())
}

/// The interval and the symbol of a subject that [`candle`] or [`running_candle`] wrote.
pub fn candle_of(subject: &str) -> Option<(CandleInterval, Symbol)> {
    let rest = subject.strip_prefix("candles.")?;
    let (interval, token) = rest.strip_prefix("running.").unwrap_or(rest).split_once('.')?;
    Some((interval.parse().ok()?, Symbol::from_token(token).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_one_token_of_a_key() {
        assert_eq!(key_of_host("https://www.example.com"), "https=3A//www=2Eexample=2Ecom");
        assert_eq!(key_of_host("http://[::1]:80"), "http=3A//=5B=3A=3A1=5D=3A80");
    }

    #[test]
    fn subjects_are_those_of_the_contract() {
        let sim = Source::new("sim").unwrap();
        let brk = Symbol::new("BRK.B").unwrap();
        assert_eq!(raw(&sim, Some(&brk)), "ticks.raw.sim.BRK=2EB");
        assert_eq!(raw(&sim, None), "ticks.raw.sim._");
        assert_eq!(tick(&brk), "ticks.norm.BRK=2EB");
        assert_eq!(rejected(&sim, Reason::Malformed), "ticks.rejected.sim.malformed");
        assert_eq!(candle(CandleInterval::OneMinute, &brk), "candles.1m.BRK=2EB");
        assert_eq!(alert(&brk), "alerts.BRK=2EB");
        assert_eq!(running_candle(CandleInterval::OneMinute, &brk), "candles.running.1m.BRK=2EB");
        for subject in ["candles.1m.BRK=2EB", "candles.running.1m.BRK=2EB"] {
            assert_eq!(candle_of(subject), Some((CandleInterval::OneMinute, brk.clone())));
        }
        assert_eq!(candle_of("candles.2m.BRK=2EB"), None);
        let shop = Source::new("html:my-shop").unwrap();
        assert_eq!(setting_of(&shop), "sources.html=3Amy-shop");
        assert_eq!(source_of_setting("sources.html=3Amy-shop"), Some(shop));
        assert_eq!(source_of_setting("symbols"), None);
        assert_eq!(symbol_of_raw("ticks.raw.sim._"), None);
        assert_eq!(retry("ticks.raw.sim.BRK=2EB"), "ticks.raw.retry.BRK=2EB");
        assert_eq!(symbol_of_raw("ticks.raw.sim.BRK=2EB"), Some(brk));
    }

    proptest! {
        #[test]
        fn a_symbol_is_one_token_of_any_subject(text in "\\PC{1,16}") {
            prop_assume!(Symbol::new(&text).is_ok());
            let symbol = Symbol::new(&text).unwrap();
            let source = Source::new("sim").unwrap();
            let raw = raw(&source, Some(&symbol));
            prop_assert_eq!(raw.split('.').count(), 4);
            prop_assert_eq!(symbol_of_raw(&raw), Some(symbol.clone()));
            let tick = tick(&symbol);
            prop_assert_eq!(tick.split('.').count(), 3);
            prop_assert_eq!(symbol_of_tick(&tick), Some(symbol));
        }
    }
}
