//! Binance's WebSocket streams: every trade of the symbols that are followed.
//!
//! See "Trade Streams", "Live Subscribing/Unsubscribing to streams" and "WebSocket Limits" in
//! <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>. The streams need
//! no account. Each trade is a message, and has a number without a gap per symbol.
//!
//! A connection ends after 24 hours, and before that when the server is shut down, which it
//! announces (`serverShutdown`): it is replaced in time. Binance takes a subscription to a symbol
//! that it does not know, and then sends nothing; only one that is no symbol at all is refused.

use std::time::Duration;

use schemas::{Format, Symbol};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use super::feed::{Action, Answers, Feed, Heard, Notice, Provider, Terms, Trade};
use crate::{
    config::{self, BinanceConfig, ConfigError},
    source::{ErrorKind, FetchError},
};

/// Five messages a second are allowed, pings and pongs among them.
const TERMS: Terms = Terms {
    max_symbols: 1_024,
    symbols_per_request: 100,
    request_interval: Duration::from_millis(500),
    answers: Answers::Whole,
    lifetime: Some(Duration::from_secs(23 * 60 * 60 + 30 * 60)),
    hours: None,
};

/// The streams of trades.
pub(super) fn feed(config: &BinanceConfig) -> Result<Feed, ConfigError> {
    let symbols = config::symbols("binance.symbols", &config.symbols)?;
    if let Some(small) = symbols.iter().find(|symbol| symbol.as_str().contains(char::is_lowercase))
    {
        let fault = format!("{small:?} must be in capitals, as Binance writes it in its trades");
        return Err(ConfigError::new("binance.symbols", fault));
    }
    let url = config::url("binance.url", &config.url, &["ws", "wss"])?;
    Feed::new("binance", url, symbols, Format::BinanceTrade, Binance)
        .spread("binance.symbols_per_connection", config.symbols_per_connection)
}

struct Binance;

/// What a message must say to be understood; the rest of it is for its reader.
#[derive(Deserialize)]
struct Envelope {
    /// Of a combined stream, which wraps what it sends.
    #[serde(default)]
    data: Option<Event>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    s: Option<Symbol>,
    #[serde(default)]
    t: Option<u64>,
    /// Of an answer.
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    error: Option<Refusal>,
    #[serde(default)]
    msg: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    s: Option<Symbol>,
    #[serde(default)]
    t: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    msg: String,
}

impl Provider for Binance {
    fn terms(&self) -> Terms {
        TERMS
    }

    fn request(&self, action: Action, symbols: &[&Symbol], number: u64) -> Message {
        let streams: Vec<String> = symbols
            .iter()
            .map(|symbol| format!("{}@trade", symbol.as_str().to_lowercase()))
            .collect();
        let request = serde_json::json!({
            "method": match action { Action::Follow => "SUBSCRIBE", Action::Leave => "UNSUBSCRIBE" },
            "params": streams,
            "id": number,
        });
        Message::text(request.to_string())
    }

    fn read(&self, body: &[u8]) -> Result<Heard, FetchError> {
        let malformed = |fault: String| FetchError::new(ErrorKind::Malformed, fault);
        let envelope: Envelope = serde_json::from_slice(body)
            .map_err(|error| malformed(format!("a message that is none of the feed's: {error}")))?;
        let Envelope { e, s, t, .. } = envelope;
        let event = envelope.data.unwrap_or(Event { e, s, t });
        match event.e.as_deref() {
            Some("trade") => {}
            Some("serverShutdown") => return Ok(Heard::Notice(Notice::Leaving)),
            Some(_) => return Ok(Heard::Notice(Notice::Alive)),
            None => {
                let refusal = envelope.error.map(|refusal| refusal.msg).or(envelope.msg);
                return Ok(Heard::Notice(match (refusal, envelope.id) {
                    (Some(why), _) => Notice::Refused(None, why),
                    (None, Some(number)) => Notice::AllDone(number),
                    (None, None) => Notice::Alive,
                }));
            }
        }
        let (Some(symbol), Some(number)) = (event.s, event.t) else {
            let fault = "a trade without s or t cannot be told from another";
            return Err(malformed(fault.to_owned()));
        };
        let trade = Trade { symbol: Some(symbol), number: Some(number), is_repeat: false };
        Ok(Heard::Trades(vec![trade]))
    }
}

#[cfg(test)]
mod tests;
