//! Kraken's WebSocket feed, version 2: every trade of the pairs that are followed.
//!
//! See the channel `trade` in <https://docs.kraken.com/api/docs/websocket-v2/trade>, and `status`,
//! `heartbeat` and `ping` beside it. The feed needs no account. Trades that happen together may come
//! in one message, and of several pairs where they are followed; each has a `trade_id`, a number
//! without a gap per pair.
//!
//! No snapshot is asked for. It would bring the last 50 trades of a pair at each new connection,
//! days old where the pair is quiet, and older than what is remembered of ticks: the same trade
//! would become two. What was traded between two connections is counted as missed.

use std::time::Duration;

use schemas::{Format, Symbol};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Message;

use super::feed::{Action, Answers, Feed, Heard, Notice, Provider, Terms, Trade};
use crate::{
    config::{self, ConfigError, KrakenConfig},
    source::{ErrorKind, FetchError},
};

/// Kraken names no limit on what is asked over a connection; the size keeps messages small.
const TERMS: Terms = Terms {
    max_symbols: usize::MAX,
    symbols_per_request: 100,
    request_interval: Duration::from_millis(200),
    answers: Answers::PerSymbol,
    lifetime: None,
    hours: None,
};

/// The feed of trades.
pub(super) fn feed(config: &KrakenConfig) -> Result<Feed, ConfigError> {
    let url = config::url("kraken.url", &config.url, &["ws", "wss"])?;
    let symbols = config::symbols("kraken.symbols", &config.symbols)?;
    Feed::new("kraken", url, symbols, Format::KrakenTrade, Kraken)
        .spread("kraken.symbols_per_connection", config.symbols_per_connection)
}

struct Kraken;

/// What a message must say to be understood; the rest of it is for its reader.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    channel: Option<String>,
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
    /// Of an answer.
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    success: Option<bool>,
    #[serde(default)]
    symbol: Option<Symbol>,
    #[serde(default)]
    result: Option<Answered>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    symbol: Option<Symbol>,
}

#[derive(Deserialize)]
struct Named {
    symbol: Symbol,
    trade_id: u64,
}

impl Provider for Kraken {
    fn terms(&self) -> Terms {
        TERMS
    }

    fn request(&self, action: Action, symbols: &[&Symbol], number: u64) -> Message {
        let (method, mut params) = match action {
            Action::Follow => ("subscribe", serde_json::json!({ "snapshot": false })),
            Action::Leave => ("unsubscribe", serde_json::json!({})),
        };
        params["channel"] = "trade".into();
        params["symbol"] = symbols.iter().map(|symbol| symbol.as_str()).collect();
        let request = serde_json::json!({ "method": method, "params": params, "req_id": number });
        Message::text(request.to_string())
    }

    fn read(&self, body: &[u8]) -> Result<Heard, FetchError> {
        let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| {
            let fault = format!("a message that is none of the feed's: {error}");
            FetchError::new(ErrorKind::Malformed, fault)
        })?;
        Ok(match envelope.channel.as_deref() {
            Some("trade") if !envelope.data.is_empty() => {
                Heard::Trades(envelope.data.into_iter().map(trade).collect())
            }
            // Heartbeats, the status of the system, and whatever else may come to be.
            Some(_) => Heard::Notice(Notice::Alive),
            None => Heard::Notice(answer(envelope)),
        })
    }
}

/// A trade that cannot be named is still published: whoever decodes it says what is wrong.
fn trade(data: &RawValue) -> Trade {
    let named = serde_json::from_str::<Named>(data.get()).ok();
    let (symbol, number) = named.map(|named| (named.symbol, named.trade_id)).unzip();
    Trade { symbol, number, is_repeat: false }
}

/// Each symbol of a request has an answer of its own.
fn answer(envelope: Envelope<'_>) -> Notice {
    let is_ours = matches!(envelope.method.as_deref(), Some("subscribe" | "unsubscribe"));
    let symbol = envelope.symbol.or(envelope.result.and_then(|result| result.symbol));
    match (envelope.success, envelope.error, symbol) {
        (Some(true), _, Some(symbol)) if is_ours => Notice::Done(symbol),
        (_, Some(error), symbol) => Notice::Refused(symbol, error),
        _ => Notice::Alive,
    }
}

#[cfg(test)]
mod tests;
