//! The sources, one module each, and what the polling ones share.

mod alphavantage;
mod coinbase;
mod fetch;
mod file;
mod html;
mod polling;
mod quota;
mod sim;
#[cfg(test)]
mod stub;

use std::sync::Arc;

use schemas::{HtmlSite, Records};

use crate::{
    config::{Config, ConfigError},
    source::Source,
};

/// The sources of the configuration, each checked and none of them started.
pub(crate) fn build(
    config: &Config,
    sites: &[HtmlSite],
    records: &[Records],
) -> Result<Vec<Arc<dyn Source>>, ConfigError> {
    let mut sources: Vec<Arc<dyn Source>> = Vec::with_capacity(config.sources.len());
    for name in &config.sources {
        let refuse = |why: &str| Err(ConfigError::new("sources", format!("{name:?}{why}")));
        if sources.iter().any(|source| source.name().as_str() == name) {
            return refuse(" is there twice");
        }
        sources.push(match name.as_str() {
            "sim" => Arc::new(sim::Sim::new(&config.sim)?),
            "file" => {
                let records = records.iter().find(|records| records.source == "file");
                Arc::new(file::Replay::new(&config.file, records)?)
            }
            "coinbase" => Arc::new(coinbase::Coinbase::new(&config.coinbase)?),
            "alphavantage" => Arc::new(alphavantage::AlphaVantage::new(&config.alphavantage)?),
            other => {
                let Some(site) = other.strip_prefix("html:") else {
                    return refuse(
                        " is not a source: sim, file, coinbase, alphavantage or html:<site>",
                    );
                };
                let Some(site) = sites.iter().find(|known| known.name == site) else {
                    return refuse(&format!(": no site {site:?} is configured"));
                };
                Arc::new(html::Site::new(site)?)
            }
        });
    }
    Ok(sources)
}

/// A name that is valid, because this crate chose it.
#[expect(clippy::expect_used, reason = "only called with the literals of this crate")]
fn source_name(name: &'static str) -> schemas::Source {
    schemas::Source::new(name).expect("a source name of ours")
}
