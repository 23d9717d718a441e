//! The sources, one module each, what the streaming ones share ([`feed`]), and the polling ones.

mod alpaca;
mod alphavantage;
mod binance;
mod coinbase;
mod feed;
mod fetch;
mod file;
mod finnhub;
mod html;
mod kraken;
mod polling;
mod sim;
mod stooq;
#[cfg(test)]
mod stub;
mod twelvedata;
mod yahoo;

use std::sync::Arc;

use schemas::{HtmlSite, Records, Symbol};

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
        if sources.iter().any(|source| source.name().as_str() == name) {
            return Err(refuse(name, " is there twice"));
        }
        sources.push(build_one(config, sites, records, name)?);
    }
    Ok(sources)
}

/// One source as it is configured, whether the configuration runs it or not.
pub(crate) fn build_one(
    config: &Config,
    sites: &[HtmlSite],
    records: &[Records],
    name: &str,
) -> Result<Arc<dyn Source>, ConfigError> {
    Ok(match name {
        "sim" => Arc::new(sim::Sim::new(&config.sim)?),
        "file" => {
            let records = records.iter().find(|records| records.source == "file");
            Arc::new(file::Replay::new(&config.file, records)?)
        }
        "coinbase" => Arc::new(coinbase::feed(&config.coinbase)?),
        "kraken" => Arc::new(kraken::feed(&config.kraken)?),
        "binance" => Arc::new(binance::feed(&config.binance)?),
        "alpaca" => Arc::new(alpaca::feed(&config.alpaca)?),
        "alphavantage" => Arc::new(alphavantage::new(&config.alphavantage)?),
        "yahoo" => Arc::new(yahoo::new(&config.yahoo)?),
        "finnhub" => finnhub::build(&config.finnhub)?,
        "twelvedata" => Arc::new(twelvedata::new(&config.twelvedata)?),
        "stooq" => Arc::new(stooq::new(&config.stooq)?),
        other => {
            let Some(site) = other.strip_prefix("html:") else {
                return Err(refuse(
                    name,
                    " is not a source: sim, file, coinbase, kraken, binance, alpaca, alphavantage, \
                     yahoo, finnhub, twelvedata, stooq or html:<site>",
                ));
            };
            let Some(site) = sites.iter().find(|known| known.name == site) else {
                return Err(refuse(name, &format!(": no site {site:?} is configured")));
            };
            Arc::new(html::Site::new(site, &config.browser)?)
        }
    })
}

/// The same for other symbols than the configured ones.
pub(crate) fn build_for(
    config: &Config,
    sites: &[HtmlSite],
    records: &[Records],
    name: &str,
    symbols: &[Symbol],
) -> Result<Arc<dyn Source>, ConfigError> {
    let (mut config, mut sites) = (config.clone(), sites.to_vec());
    match chosen_symbols(&mut config, &mut sites, name) {
        Some(chosen) => *chosen = symbols.iter().map(Symbol::to_string).collect(),
        None => return Err(refuse(name, " has no symbols that can be chosen")),
    }
    build_one(&config, &sites, records, name)
}

/// Where the symbols of a source are configured, if they are chosen at all.
fn chosen_symbols<'a>(
    config: &'a mut Config,
    sites: &'a mut [HtmlSite],
    name: &str,
) -> Option<&'a mut Vec<String>> {
    match name {
        "sim" => Some(&mut config.sim.symbols),
        "coinbase" => Some(&mut config.coinbase.symbols),
        "kraken" => Some(&mut config.kraken.symbols),
        "binance" => Some(&mut config.binance.symbols),
        "alpaca" => Some(&mut config.alpaca.symbols),
        "alphavantage" => Some(&mut config.alphavantage.symbols),
        "yahoo" => Some(&mut config.yahoo.symbols),
        "finnhub" => Some(&mut config.finnhub.symbols),
        "twelvedata" => Some(&mut config.twelvedata.symbols),
        "stooq" => Some(&mut config.stooq.symbols),
        _ => {
            let site = name.strip_prefix("html:")?;
            let site = sites.iter_mut().find(|known| known.name == site)?;
            Some(&mut site.symbols)
        }
    }
}

fn refuse(name: &str, why: &str) -> ConfigError {
    ConfigError::new("sources", format!("{name:?}{why}"))
}

/// A name that is valid, because this crate chose it.
#[expect(clippy::expect_used, reason = "only called with the literals of this crate")]
fn source_name(name: &'static str) -> schemas::Source {
    schemas::Source::new(name).expect("a source name of ours")
}
