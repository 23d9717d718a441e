//! Finnhub's WebSocket feed: every trade of the symbols that are followed.
//!
//! See <https://finnhub.io/docs/api/websocket-trades>. The key of the account stands in the address.
//! A message holds the trades of a moment, of several symbols. They have neither a number nor any
//! other identity, so what is missing between them cannot be seen. Symbols are asked for one by one,
//! and that is not answered; what is refused comes back as an error that names no symbol.

use std::time::Duration;

use schemas::{Format, Symbol, calendar::Calendar};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    config::{self, ConfigError, FinnhubConfig},
    source::{ErrorKind, FetchError},
    sources::feed::{AFTER_REFUSAL, Action, Answers, Feed, Heard, Notice, Provider, Terms, Trade},
};

/// The feed of trades. The configuration has a key.
pub(super) fn feed(config: &FinnhubConfig) -> Result<Feed, ConfigError> {
    let mut url = config::url("finnhub.stream_url", &config.stream_url, &["ws", "wss"])?;
    url.query_pairs_mut().append_pair("token", &config.api_key);
    let symbols = config::symbols("finnhub.symbols", &config.symbols)?;
    // Stocks have no exchange before their names; coins and currencies, which never rest, have.
    let are_stocks = symbols.iter().all(|symbol| !symbol.as_str().contains(':'));
    let finnhub = Finnhub { hours: are_stocks.then_some(Calendar::UsEquities) };
    Ok(Feed::new("finnhub", url, symbols, Format::FinnhubTrades, finnhub))
}

struct Finnhub {
    hours: Option<Calendar>,
}

/// What a message must say to be understood; the rest of it is for its reader.
#[derive(Deserialize)]
struct Envelope<'a> {
    r#type: String,
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
    /// Of an `error`.
    #[serde(default)]
    msg: String,
}

#[derive(Deserialize)]
struct Named {
    s: Symbol,
}

impl Provider for Finnhub {
    /// No account may make more than 30 calls a second.
    fn terms(&self) -> Terms {
        Terms {
            max_symbols: usize::MAX,
            symbols_per_request: 1,
            request_interval: Duration::from_millis(50),
            answers: Answers::Never,
            lifetime: None,
            hours: self.hours,
        }
    }

    fn request(&self, action: Action, symbols: &[&Symbol], _: u64) -> Message {
        let request = serde_json::json!({
            "type": match action { Action::Follow => "subscribe", Action::Leave => "unsubscribe" },
            "symbol": symbols.first(),
        });
        Message::text(request.to_string())
    }

    fn read(&self, body: &[u8]) -> Result<Heard, FetchError> {
        let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| {
            let fault = format!("a message that is none of the feed's: {error}");
            FetchError::new(ErrorKind::Malformed, fault)
        })?;
        Ok(match envelope.r#type.as_str() {
            "trade" if !envelope.data.is_empty() => {
                Heard::Trades(envelope.data.into_iter().map(trade).collect())
            }
            "error" => Heard::Notice(error(envelope.msg)),
            // Pings, and whatever else may come to be.
            _ => Heard::Notice(Notice::Alive),
        })
    }
}

/// A trade that cannot be named is still published: whoever decodes it says what is wrong.
fn trade(data: &RawValue) -> Trade {
    let named = serde_json::from_str::<Named>(data.get()).ok();
    Trade { symbol: named.map(|named| named.s), number: None, is_repeat: false }
}

/// An error over the key is one of the session; any other is one of a symbol, and harms no other.
fn error(said: String) -> Notice {
    if !said.to_lowercase().contains("api key") {
        return Notice::Complaint(said);
    }
    let fault = format!("the provider answers: {said}");
    let error = FetchError::new(ErrorKind::Unauthorized, fault);
    Notice::Failed(FetchError { retry_after: Some(AFTER_REFUSAL), ..error })
}

#[cfg(test)]
mod tests;
