//! Pages that need JavaScript: a headless Chromium loads them, and what their scripts made of them is
//! the payload. One browser serves all sites of the process. It is started when it is first needed,
//! started anew when it has ended or hangs, and it ends with the last site and with the process.
//!
//! What a page can reach is bounded by its [`gate`], what it can use up by the flags in [`chromium`]
//! and the time it is given. Its robots.txt was asked before; what the page itself loads, and where it
//! goes from there, is not asked about.

mod chromium;
mod gate;
mod page;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use chromiumoxide::cdp::browser_protocol::target::CreateBrowserContextParams;
use tokio::{
    runtime::{self, Runtime},
    sync::Semaphore,
    time::timeout,
};
use tracing::warn;

use crate::{
    config::BrowserConfig,
    source::{ErrorKind, FetchError},
    sources::{fetch::Page, html::visit::Wanted},
};

use chromium::Chromium;
use gate::Gate;

/// So many pages are open at once; more wait.
const PAGES: usize = 4;

/// How long a page may take to go; a browser that cannot let go of one is ended.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The browser of this process, while a site needs it.
static SHARED: Mutex<Weak<Renderer>> = Mutex::new(Weak::new());

/// A browser, whether it runs or not.
pub(super) struct Renderer {
    inner: Arc<Inner>,
    /// Of its own, so that it outlives the sessions that use it, and its many messages are moved
    /// beside them. There until it is dropped.
    runtime: Option<Runtime>,
}

struct Inner {
    config: BrowserConfig,
    running: tokio::sync::Mutex<Option<Arc<Chromium>>>,
    pages: Semaphore,
}

impl Renderer {
    /// The browser that all sites of the process share.
    pub(super) fn shared(config: &BrowserConfig) -> io::Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(renderer) = shared.upgrade() {
            return Ok(renderer);
        }
        let renderer = Arc::new(Self::new(config)?);
        *shared = Arc::downgrade(&renderer);
        Ok(renderer)
    }

    fn new(config: &BrowserConfig) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("browser")
            .enable_all()
            .build()?;
        let inner = Inner {
            config: config.clone(),
            running: tokio::sync::Mutex::default(),
            pages: Semaphore::new(PAGES),
        };
        Ok(Self { inner: Arc::new(inner), runtime: Some(runtime) })
    }

    /// Loads a page; it is let go of even if nobody waits for it any more.
    pub(super) async fn render(&self, wanted: Wanted) -> Result<Page, FetchError> {
        let ended = || FetchError::new(ErrorKind::Connection, "the browser has ended");
        let Some(runtime) = &self.runtime else { return Err(ended()) };
        let inner = Arc::clone(&self.inner);
        let rendering = runtime.spawn(async move { inner.render(&wanted).await });
        rendering.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        // All tasks are dropped, and the browser with them.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    async fn render(&self, wanted: &Wanted) -> Result<Page, FetchError> {
        // Never closed.
        let _permit = self.pages.acquire().await;
        let chromium = self.chromium().await?;
        let (page, let_go) = tokio::select! {
            done = in_context(&chromium, wanted) => done,
            () = chromium.gone.cancelled() => {
                (Err(FetchError::new(ErrorKind::Connection, "the browser has ended")), false)
            }
        };
        if !let_go {
            warn!("the browser is ended, and started anew for the next page");
            self.end(&chromium).await;
        }
        page
    }

    /// The browser, started if need be.
    async fn chromium(&self) -> Result<Arc<Chromium>, FetchError> {
        let mut running = self.running.lock().await;
        if let Some(chromium) = running.as_ref().filter(|chromium| !chromium.gone.is_cancelled()) {
            return Ok(Arc::clone(chromium));
        }
        *running = None;
        let started = Chromium::start(&self.config).await;
        let started = started.map_err(|fault| {
            FetchError::new(ErrorKind::Connection, format!("the browser: {fault}"))
        })?;
        Ok(Arc::clone(running.insert(Arc::new(started))))
    }

    /// Pages that others still have open in it fail, and it ends with the last of them.
    async fn end(&self, chromium: &Arc<Chromium>) {
        chromium.gone.cancel();
        let mut running = self.running.lock().await;
        if running.as_ref().is_some_and(|running| Arc::ptr_eq(running, chromium)) {
            *running = None;
        }
    }
}

/// Loads a page in a context of its own, with nothing of other pages: no cookie, no cache, and its
/// own way to the network. Whether the browser has let go of it afterwards, too.
async fn in_context(chromium: &Chromium, wanted: &Wanted) -> (Result<Page, FetchError>, bool) {
    let browser = &chromium.browser;
    let gate = match Gate::open(wanted.trusted.clone()).await {
        Ok(gate) => gate,
        Err(fault) => {
            return (Err(FetchError::new(ErrorKind::Connection, fault.to_string())), true);
        }
    };
    let context = CreateBrowserContextParams {
        dispose_on_detach: Some(true),
        proxy_server: Some(gate.address()),
        // Addresses of this machine would be asked directly.
        proxy_bypass_list: Some("<-loopback>".to_owned()),
        origins_with_universal_network_access: None,
    };
    let context = match timeout(CLOSE_WITHIN, browser.create_browser_context(context)).await {
        Ok(Ok(context)) => context,
        Ok(Err(fault)) => return (Err(page::broken(fault)), false),
        Err(_) => {
            let fault = "the browser does not answer";
            return (Err(FetchError::new(ErrorKind::Timeout, fault)), false);
        }
    };
    let loading = page::load(browser, context.clone(), &gate, wanted);
    let page = timeout(wanted.timeout, loading).await.unwrap_or_else(|_| {
        let within = wanted.timeout.as_secs();
        let missing = match wanted.wait_for.as_str() {
            "" => String::new(),
            selector => format!("; it waits for {selector:?}"),
        };
        let fault = format!("the page is not ready within {within} s{missing}");
        Err(FetchError::new(ErrorKind::Timeout, fault))
    });
    let closed = timeout(CLOSE_WITHIN, browser.dispose_browser_context(context)).await;
    (page, matches!(closed, Ok(Ok(()))))
}
