//! Web pages with prices, fetched now and then and published as they are: one page with many
//! symbols, or one page for each.
//!
//! A host is visited politely ([`host`], [`robots`]), and only where it may be: no page leads us to
//! an address on this machine or in its network ([`service::outbound`]). Where a page needs
//! JavaScript, a [`browser`] loads it.

mod address;
#[cfg(feature = "browser")]
mod browser;
#[cfg(not(feature = "browser"))]
#[path = "no_browser.rs"]
mod browser;
mod host;
mod robots;
#[cfg(test)]
mod tests;
mod visit;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemas::{Format, HtmlSite, RawTick, Source as Name, Symbol};
use tokio::time::{Instant, sleep};

use super::{
    fetch::{Answer, Page},
    polling::Pages,
};
use crate::{
    config::{self, BrowserConfig, ConfigError},
    outlet::backoff,
    source::{FetchError, Followed, Session, Source},
};

use address::Address;
use browser::Renderer;
use host::Host;
use visit::{Validators, Visitor};

/// A site that is read.
pub(super) struct Site {
    name: Name,
    address: Address,
    symbols: Vec<Symbol>,
    site: HtmlSite,
    /// Where its pages need JavaScript.
    renderer: Option<Arc<Renderer>>,
}

impl Site {
    pub(super) fn new(site: &HtmlSite, browser: &BrowserConfig) -> Result<Self, ConfigError> {
        let name = Name::new(&format!("html:{}", site.name))
            .map_err(|fault| ConfigError::new("sources", format!("html:{}: {fault}", site.name)))?;
        let key = |field: &str| format!("sources: html:{}: {field}", site.name);
        let address = Address::new(&key("url"), site)?;
        let symbols = match address {
            Address::Page(_) if site.symbols.is_empty() => Vec::new(),
            Address::Page(_) => {
                let fault = "url has no {symbol}, so its page is the same for all of them";
                return Err(ConfigError::new(key("symbols"), fault));
            }
            Address::PerSymbol { .. } => config::symbols(&key("symbols"), &site.symbols)?,
        };
        config::at_least_one(&key("interval_secs"), site.interval_secs)?;
        visit::check_contact(&key("contact"), &site.contact)?;
        config::at_least_one(&key("timeout_secs"), site.timeout_secs)?;
        let renderer = site.render.then(|| Renderer::shared(browser)).transpose();
        let renderer = renderer.map_err(|fault| ConfigError::new(key("render"), fault))?;
        Ok(Self { name, address, symbols, site: site.clone(), renderer })
    }

    /// The pages of a round: those of the symbols, or the one of all.
    fn pages(&self, symbols: &mut Followed) -> Vec<Option<Symbol>> {
        let now = symbols.now();
        match self.address {
            Address::Page(_) => vec![None],
            Address::PerSymbol { .. } => now.iter().cloned().map(Some).collect(),
        }
    }

    fn tick(&self, id: String, symbol: Option<&Symbol>, page: Page) -> RawTick {
        RawTick {
            id,
            source: self.name.clone(),
            symbol: symbol.cloned(),
            received_at: page.received_at,
            content_type: page.content_type("text/html"),
            format: Format::Html,
            columns: None,
            body: page.body,
        }
    }
}

#[async_trait]
impl Source for Site {
    fn name(&self) -> &Name {
        &self.name
    }

    fn url(&self) -> String {
        self.address.shown()
    }

    fn symbols(&self) -> Vec<Symbol> {
        self.symbols.clone()
    }

    fn host(&self) -> Option<String> {
        Some(self.address.of(None).origin().ascii_serialization())
    }

    async fn leave(&self) {
        Host::of(&self.address.of(None)).is_left_alone().await;
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { resume, mut symbols, mut outlet, .. } = session;
        let visitor = Visitor::new(&self.site, &self.address.of(None), self.renderer.clone())?;
        let interval = Duration::from_secs(self.site.interval_secs);
        let mut published = Pages::new(&self.name, self.site.interval_secs, resume.as_deref());
        let mut validators: HashMap<Option<Symbol>, Validators> = HashMap::new();
        let mut backoff = backoff();
        // Whoever had the host before may just have asked it.
        sleep(Duration::from_millis(self.site.delay_ms)).await;
        loop {
            let round = Instant::now();
            let pages = self.pages(&mut symbols);
            validators.retain(|symbol, _| pages.contains(symbol));
            for symbol in pages {
                let known = validators.entry(symbol.clone()).or_default();
                match visitor.get(&self.address.of(symbol.as_ref()), known).await {
                    Ok((Answer::Page(page), url)) => {
                        backoff.reset();
                        *known = Validators::of(url, &page.headers);
                        match published.id(symbol.as_ref(), page.received_at, &page.body) {
                            Some(id) => outlet.send(self.tick(id, symbol.as_ref(), page)).await,
                            None => outlet.unchanged(),
                        }
                    }
                    Ok((Answer::NotModified, _)) => {
                        backoff.reset();
                        outlet.unchanged();
                    }
                    Err(error) => outlet.back_off(&error, &mut backoff).await,
                }
            }
            tokio::select! {
                () = sleep(interval.saturating_sub(round.elapsed())) => {}
                () = symbols.changed() => {}
            }
        }
    }
}
