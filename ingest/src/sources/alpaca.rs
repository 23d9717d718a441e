//! Alpaca's stream of market data: every trade of the stocks that are followed.
//!
//! See <https://docs.alpaca.markets/docs/streaming-market-data> and
//! <https://docs.alpaca.markets/docs/real-time-stock-pricing-data>. It needs an account. Messages are
//! arrays: what is for us comes alone, trades may come together, of several stocks. They come as
//! JSON or, where the handshake asks for that, as MessagePack, and are answered in kind. Trades have
//! no number without a gap, so what is missing between them cannot be seen. With the trades of a
//! stock come its corrections and cancellations; they are published, too.
//!
//! Alpaca answers pings, and sends nothing of its own while nothing is traded.

use std::{collections::BTreeSet, time::Duration};

use schemas::{Format, Symbol, calendar::Calendar, msgpack};
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use super::feed::{AFTER_REFUSAL, Action, Answers, Feed, Heard, Notice, Provider, Terms, Trade};
use crate::{
    config::{self, AlpacaConfig, AlpacaEncoding, AlpacaFeed, ConfigError},
    source::{ErrorKind, FetchError},
};

/// The stream of trades.
pub(super) fn feed(config: &AlpacaConfig) -> Result<Feed, ConfigError> {
    for (key, secret) in [("key_id", &config.key_id), ("secret_key", &config.secret_key)] {
        if secret.is_empty() {
            let fault = "a key is needed; Alpaca gives one for free";
            return Err(ConfigError::new(format!("alpaca.{key}"), fault));
        }
    }
    let mut url = config::url("alpaca.url", &config.url, &["ws", "wss"])?;
    let path = format!("{}/{}", url.path().trim_end_matches('/'), config.feed.as_str());
    url.set_path(&path);
    let symbols = config::symbols("alpaca.symbols", &config.symbols)?;
    let alpaca = Alpaca {
        key_id: config.key_id.clone(),
        secret_key: config.secret_key.clone(),
        encoding: config.encoding,
        // The test stream never rests.
        hours: (config.feed != AlpacaFeed::Test).then_some(Calendar::UsEquities),
    };
    Ok(match config.encoding {
        AlpacaEncoding::Json => Feed::new("alpaca", url, symbols, Format::AlpacaJson, alpaca),
        AlpacaEncoding::Msgpack => Feed {
            headers: vec![("content-type", MSGPACK)],
            content_type: MSGPACK,
            ..Feed::new("alpaca", url, symbols, Format::AlpacaMsgpack, alpaca)
        },
    })
}

const MSGPACK: &str = "application/msgpack";

struct Alpaca {
    key_id: String,
    secret_key: String,
    encoding: AlpacaEncoding,
    hours: Option<Calendar>,
}

/// What an element of a message must say to be understood; the rest of it is for its reader.
#[derive(Deserialize)]
struct Element {
    #[serde(rename = "T", default)]
    kind: Value,
    #[serde(rename = "S", default)]
    symbol: Value,
    /// Of a `success` or an `error`.
    #[serde(default)]
    msg: Value,
    /// Of an `error`.
    #[serde(default)]
    code: Value,
    /// Of a `subscription`.
    #[serde(default)]
    trades: Option<BTreeSet<Symbol>>,
}

impl Provider for Alpaca {
    /// Alpaca names no limit on what is asked, but one on the symbols of an account: its error 405.
    fn terms(&self) -> Terms {
        Terms {
            max_symbols: usize::MAX,
            symbols_per_request: 100,
            request_interval: Duration::from_millis(200),
            answers: Answers::Whole,
            lifetime: None,
            hours: self.hours,
        }
    }

    fn login(&self) -> Option<Message> {
        Some(self.message(serde_json::json!({
            "action": "auth",
            "key": self.key_id,
            "secret": self.secret_key,
        })))
    }

    fn request(&self, action: Action, symbols: &[&Symbol], _: u64) -> Message {
        self.message(serde_json::json!({
            "action": match action { Action::Follow => "subscribe", Action::Leave => "unsubscribe" },
            "trades": symbols,
        }))
    }

    fn read(&self, body: &[u8]) -> Result<Heard, FetchError> {
        let elements = self.elements(body)?;
        let mut trades = Vec::new();
        for element in elements {
            match element.kind.as_str() {
                Some("success" | "error" | "subscription") => {
                    return Ok(Heard::Notice(notice(element)));
                }
                _ => {
                    let symbol = element.symbol.as_str().and_then(|name| Symbol::new(name).ok());
                    trades.push(Trade { symbol, number: None, is_repeat: false });
                }
            }
        }
        Ok(if trades.is_empty() { Heard::Notice(Notice::Alive) } else { Heard::Trades(trades) })
    }
}

impl Alpaca {
    fn message(&self, message: Value) -> Message {
        match self.encoding {
            AlpacaEncoding::Json => Message::text(message.to_string()),
            AlpacaEncoding::Msgpack => Message::binary(msgpack::from_json(message)),
        }
    }

    fn elements(&self, body: &[u8]) -> Result<Vec<Element>, FetchError> {
        let elements = match self.encoding {
            AlpacaEncoding::Json => serde_json::from_slice(body),
            AlpacaEncoding::Msgpack => {
                let elements = msgpack::array_to_json(body)
                    .map_err(|fault| malformed(&fault))?
                    .into_iter()
                    .map(Result::unwrap_or_default);
                elements.map(serde_json::from_value).collect()
            }
        };
        elements.map_err(|fault| malformed(&fault))
    }
}

fn malformed(fault: &dyn std::fmt::Display) -> FetchError {
    let fault = format!("a message that is none of the stream's: {fault}");
    FetchError::new(ErrorKind::Malformed, fault)
}

/// Such an element is the only one of its message.
fn notice(element: Element) -> Notice {
    let said = element.msg.as_str().unwrap_or_default();
    match element.kind.as_str() {
        Some("subscription") => Notice::Following(element.trades.unwrap_or_default()),
        Some("success") if said == "authenticated" => Notice::Ready,
        Some("success") => Notice::Alive,
        _ => error(element.code.as_u64().unwrap_or_default(), said),
    }
}

/// What an error means, by its code.
fn error(code: u64, said: &str) -> Notice {
    let (kind, retry_after) = match code {
        // Already logged in.
        403 => return Notice::Alive,
        // Another connection of the account is open: too soon after it broke, or somewhere else.
        406 => (ErrorKind::RateLimited, Some(AFTER_REFUSAL)),
        // We were too slow, and were cut off.
        407 => (ErrorKind::RateLimited, None),
        // Not logged in, wrong key, too late.
        401 | 402 | 404 => (ErrorKind::Unauthorized, Some(AFTER_REFUSAL)),
        // The account is not enabled, or does not have that feed.
        408 | 409 => (ErrorKind::NotAllowed, Some(AFTER_REFUSAL)),
        // A request that is wrong, or one for more symbols than the account may follow.
        400..500 => return Notice::Refused(None, format!("{said} ({code})")),
        _ => (ErrorKind::Provider, None),
    };
    let fault = format!("the provider answers: {said} ({code})");
    Notice::Failed(FetchError { retry_after, ..FetchError::new(kind, fault) })
}

#[cfg(test)]
mod tests;
