//! How payloads are read and judged: the same for whoever asks, the pipeline or a dry run.

use crate::{decode::Decoder, validate::Rules};

/// The decoders and the rules, as they are configured.
pub(crate) struct Reading {
    /// From payloads to events.
    pub(crate) decoder: Decoder,
    /// From events to ticks.
    pub(crate) rules: Rules,
}
