//! What is asked: a payload, and what its envelope would say.

use bytes::Bytes;
use jiff::Timestamp;
use schemas::{Format, Source, Symbol};

use super::{MAX_CONTENT_BYTES, Refusal};

/// The message id of a payload that is given none.
const ID: &str = "dry-run";

/// The headers that are understood, in any case of letters. `Content-Type` has another name where the
/// transport has a content type of its own.
const KNOWN: &str = "Lizards-Source, Lizards-Format, Lizards-Content-Type, Lizards-Symbol, \
                     Lizards-Received-At, Lizards-Columns and Nats-Msg-Id";

/// A payload, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) body: Bytes,
    pub(super) id: String,
    pub(super) source: Option<Source>,
    pub(super) format: Option<Format>,
    pub(super) content_type: Option<String>,
    pub(super) symbol: Option<Symbol>,
    pub(super) received_at: Timestamp,
    pub(super) columns: Option<String>,
}

impl Request {
    /// A payload received now, of which nothing is known.
    pub(super) fn new(body: Bytes) -> Result<Self, Refusal> {
        if body.len() > MAX_CONTENT_BYTES {
            let fault = format!("has {} bytes; at most {MAX_CONTENT_BYTES} are read", body.len());
            return Err(Refusal::invalid("content", fault));
        }
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(Refusal::invalid("content", "is empty"));
        }
        Ok(Self {
            body,
            id: ID.to_owned(),
            source: None,
            format: None,
            content_type: None,
            symbol: None,
            received_at: Timestamp::now(),
            columns: None,
        })
    }

    /// Takes in what a header says. One of ours that is not understood is a fault, for whoever wrote it
    /// meant something; others are passed over.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let invalid = |fault: String| Refusal::invalid(name, fault);
        let value = value.trim();
        let lower = name.to_ascii_lowercase();
        if value.is_empty() && (lower.starts_with("lizards-") || lower == "nats-msg-id") {
            return Err(invalid("is empty".to_owned()));
        }
        match lower.as_str() {
            "lizards-source" => {
                self.source = Some(Source::new(value).map_err(|fault| invalid(fault.to_string()))?);
            }
            "lizards-symbol" => {
                self.symbol = Some(Symbol::new(value).map_err(|fault| invalid(fault.to_string()))?);
            }
            "lizards-format" => {
                self.format = Some(Format::from_name(value).ok_or_else(|| {
                    let all = Format::ALL.map(Format::as_str).join(", ");
                    invalid(format!("{value:?} is none of {all}"))
                })?);
            }
            "lizards-received-at" => {
                self.received_at = value.parse().map_err(|_| {
                    invalid(format!("{value:?} is no time such as 2026-11-23T15:00:00Z"))
                })?;
            }
            "content-type" | "lizards-content-type" => self.content_type = Some(value.to_owned()),
            "lizards-columns" => self.columns = Some(value.to_owned()),
            "nats-msg-id" => self.id = value.to_owned(),
            _ if lower.starts_with("lizards-") => {
                return Err(invalid(format!("is none of {KNOWN}")));
            }
            _ => {}
        }
        Ok(())
    }
}
