//! The pure types of the pipeline and their rules: what crosses a boundary, and what may not.
//!
//! No I/O and no async live here. The JSON Schemas of everything that is JSON on a wire are
//! generated from these types into `schemas/json/`, and a test fails when they drift.

pub mod alert;
pub mod calendar;
mod candle;
mod client;
mod decimal;
mod dry_run;
mod flag;
pub mod headers;
mod html;
pub mod http;
pub mod msgpack;
mod raw;
mod records;
mod rejection;
mod setting;
mod source;
pub mod subject;
mod symbol;
mod tick;

pub use candle::{
    Candle, CandleBuilder, CandleInterval, CandleUpdate, Inexact, IntervalError, Print,
};
pub use client::{
    ClientError, ClientMessage, CloseReason, Closing, ErrorCode, ServerMessage, Subscribe,
    Subscribed, Unsubscribe, Update,
};
pub use decimal::{Decimal, DecimalError};
pub use dry_run::{DryRejection, DryRun, DryRunStatus, NotAsked};
pub use flag::Flag;
pub use html::{HtmlField, HtmlSite};
pub use raw::{EnvelopeError, Format, RawTick, rfc3339_nanos};
pub use records::{JsonRecord, NotAText, NumberFormat, Records, RecordsError, TimeFormat};
pub use rejection::{Reason, Rejection, Stage};
pub use setting::SourceSetting;
pub use source::{Source, SourceError};
pub use symbol::{MANY_SYMBOLS, MAX_SYMBOL_BYTES, Symbol, SymbolError};
pub use tick::{Tick, TickKind, event_id, event_index};
