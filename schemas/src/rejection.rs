//! Why a payload, or one event in it, could not be used.

use std::fmt;

use crate::{Decimal, Symbol};

/// The kinds of reasons, few and stable: each is the last token of a subject in `TICKS_REJECTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The envelope or its format is not one of ours.
    Envelope,
    /// The payload is not of its format at all.
    Malformed,
    /// A field that a tick needs is not there.
    MissingField,
    /// A field is there with a value that means nothing.
    InvalidField,
    /// The payload is the provider's own error or rate-limit notice.
    ProviderError,
    /// The same event was processed before.
    Duplicate,
    /// The event is dated further in the future than clocks differ.
    Future,
    /// The event was older when it was received than its source's data may be.
    Stale,
    /// The event is dated before the tick before it, or was to become a tick after later ones.
    OutOfOrder,
    /// The price is far from those before it.
    Outlier,
    /// The event happened before or after the regular session of its exchange.
    ExtendedHours,
    /// The event happened while its exchange was closed.
    Closed,
    /// No source has announced the symbol.
    UnknownSymbol,
    /// Trading in the symbol is halted.
    Halted,
    /// The payload breaks the program that reads it.
    Poison,
}

impl Reason {
    /// All reasons there are.
    pub const ALL: [Self; 15] = [
        Self::Envelope,
        Self::Malformed,
        Self::MissingField,
        Self::InvalidField,
        Self::ProviderError,
        Self::Duplicate,
        Self::Future,
        Self::Stale,
        Self::OutOfOrder,
        Self::Outlier,
        Self::ExtendedHours,
        Self::Closed,
        Self::UnknownSymbol,
        Self::Halted,
        Self::Poison,
    ];

    /// As in subjects, headers and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Malformed => "malformed",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::ProviderError => "provider_error",
            Self::Duplicate => "duplicate",
            Self::Future => "future",
            Self::Stale => "stale",
            Self::OutOfOrder => "out_of_order",
            Self::Outlier => "outlier",
            Self::ExtendedHours => "extended_hours",
            Self::Closed => "closed",
            Self::UnknownSymbol => "unknown_symbol",
            Self::Halted => "halted",
            Self::Poison => "poison",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in the processing a rejection happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// From bytes to ticks.
    Decode,
    /// From a tick to a tick that can be trusted.
    Validate,
}

impl Stage {
    /// As in headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Validate => "validate",
        }
    }
}

/// One event of a payload, or a whole payload, that cannot become a tick.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Rejection {
    /// The kind of reason.
    pub reason: Reason,
    /// Where it happened.
    pub stage: Stage,
    /// What exactly: the field, its value and its fault.
    pub detail: String,
    /// Whose price it was, where that could be read.
    pub price: Option<(Symbol, Decimal)>,
}

impl Rejection {
    /// A rejection by a decoder.
    pub fn decode(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, stage: Stage::Decode, detail: detail.into(), price: None }
    }

    /// A rejection by a rule.
    pub fn validate(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, stage: Stage::Validate, detail: detail.into(), price: None }
    }
}
