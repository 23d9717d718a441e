//! Coinbase Exchange's WebSocket feed: every trade of the products that are followed.
//!
//! See the channels `matches` and `heartbeat` in
//! <https://docs.cdp.coinbase.com/exchange/websocket-feed/channels>, and "Errors" and "Subscribe" in
//! <https://docs.cdp.coinbase.com/exchange/websocket-feed/overview>. The feed needs no account. It
//! numbers the trades of a product without a gap, and greets whoever follows one with its last
//! trade (`last_match`), which tells whether any were missed.

use std::{collections::BTreeSet, time::Duration};

use schemas::{Format, Symbol};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use super::feed::{Action, Answers, Feed, Heard, Notice, Provider, Terms, Trade};
use crate::{
    config::{self, CoinbaseConfig, ConfigError},
    source::{ErrorKind, FetchError},
};

/// What a client may send is limited per address, to tens of messages a second.
const TERMS: Terms = Terms {
    max_symbols: usize::MAX,
    symbols_per_request: 100,
    request_interval: Duration::from_millis(200),
    answers: Answers::Whole,
    lifetime: None,
    hours: None,
};

/// The feed of trades.
pub(super) fn feed(config: &CoinbaseConfig) -> Result<Feed, ConfigError> {
    let url = config::url("coinbase.url", &config.url, &["ws", "wss"])?;
    let symbols = config::symbols("coinbase.symbols", &config.symbols)?;
    Feed::new("coinbase", url, symbols, Format::CoinbaseMatch, Coinbase)
        .spread("coinbase.symbols_per_connection", config.symbols_per_connection)
}

struct Coinbase;

/// What a message must say to be understood; the rest of it is for its reader.
#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    product_id: Option<Symbol>,
    #[serde(default)]
    trade_id: Option<u64>,
    /// Of `subscriptions`.
    #[serde(default)]
    channels: Vec<Channel>,
    /// Of an `error`.
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Channel {
    name: String,
    #[serde(default)]
    product_ids: BTreeSet<Symbol>,
}

impl Provider for Coinbase {
    fn terms(&self) -> Terms {
        TERMS
    }

    fn request(&self, action: Action, symbols: &[&Symbol], _: u64) -> Message {
        let request = serde_json::json!({
            "type": match action { Action::Follow => "subscribe", Action::Leave => "unsubscribe" },
            "product_ids": symbols,
            "channels": ["matches", "heartbeat"],
        });
        Message::text(request.to_string())
    }

    fn read(&self, body: &[u8]) -> Result<Heard, FetchError> {
        let malformed = |fault: String| FetchError::new(ErrorKind::Malformed, fault);
        let envelope: Envelope = serde_json::from_slice(body)
            .map_err(|error| malformed(format!("a message that is none of the feed's: {error}")))?;
        match envelope.r#type.as_str() {
            "match" | "last_match" => {}
            "subscriptions" => {
                let matches =
                    envelope.channels.into_iter().find(|channel| channel.name == "matches");
                let following = matches.map(|channel| channel.product_ids).unwrap_or_default();
                return Ok(Heard::Notice(Notice::Following(following)));
            }
            "error" => return Ok(Heard::Notice(refusal(envelope))),
            // Heartbeats, and whatever else may come to be.
            _ => return Ok(Heard::Notice(Notice::Alive)),
        }
        let (Some(symbol), Some(number)) = (envelope.product_id, envelope.trade_id) else {
            let fault = "a match without product_id or trade_id cannot be told from another";
            return Err(malformed(fault.to_owned()));
        };
        let is_repeat = envelope.r#type == "last_match";
        Ok(Heard::Trades(vec![Trade { symbol: Some(symbol), number: Some(number), is_repeat }]))
    }
}

/// `FOO-USD is not a valid product` is the reason of a subscription that failed for one product.
fn refusal(envelope: Envelope) -> Notice {
    let product = envelope.reason.as_deref().and_then(|reason| {
        let (product, _) = reason.split_once(" is not a valid product")?;
        Symbol::new(product).ok()
    });
    let words: Vec<_> = [envelope.message, envelope.reason].into_iter().flatten().collect();
    Notice::Refused(product, words.join(": "))
}

#[cfg(test)]
mod tests;
