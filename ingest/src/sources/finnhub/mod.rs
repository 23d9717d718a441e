//! Finnhub, <https://finnhub.io/docs/api>: [`trades`] as they happen, or [`quotes`] that are polled.

mod quotes;
mod trades;

use std::sync::Arc;

use crate::{
    config::{ConfigError, FinnhubConfig, FinnhubMode},
    source::Source,
};

/// What the configuration wants of Finnhub.
pub(super) fn build(config: &FinnhubConfig) -> Result<Arc<dyn Source>, ConfigError> {
    if config.api_key.is_empty() {
        let fault = "a key is needed; Finnhub gives one for free";
        return Err(ConfigError::new("finnhub.api_key", fault));
    }
    match config.mode {
        FinnhubMode::Quotes => Ok(Arc::new(quotes::new(config)?)),
        FinnhubMode::Trades => Ok(Arc::new(trades::feed(config)?)),
    }
}
