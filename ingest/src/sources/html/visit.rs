//! Fetching one page politely: its robots.txt is asked first, redirects are followed one by one by
//! the same rules, and what is no page is an error.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    header::{
        CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        LAST_MODIFIED, LOCATION,
    },
};
use schemas::HtmlSite;
use service::outbound::{Outbound, PrivateAddress};

use super::{
    browser::Renderer,
    host::{Host, PRODUCT},
};
use crate::{
    config::ConfigError,
    source::{ErrorKind, FetchError},
    sources::fetch::{self, Answer},
};

/// So many redirects are followed one after the other.
const REDIRECTS: usize = 5;

/// Who visits a site.
pub(super) struct Visitor {
    /// Follows no redirects: each of them is a visit.
    pages: Outbound,
    /// Follows as many as RFC 9309 (2.3.1.2) wants.
    robots: Outbound,
    delay: Duration,
    content_types: Vec<String>,
    /// Kept, so that its turn and its robots.txt are.
    _home: Arc<Host>,
    /// What loads the pages that need JavaScript, and how; of another address each time.
    browser: Option<(Arc<Renderer>, Wanted)>,
}

/// What a browser is asked for.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "browser"), expect(dead_code, reason = "there is nobody to read it"))]
pub(super) struct Wanted {
    pub(super) url: Url,
    pub(super) user_agent: String,
    /// CSS selector of an element that is there when the page is ready; empty: when it has loaded.
    pub(super) wait_for: String,
    /// How long all of it may take.
    pub(super) timeout: Duration,
    /// The host that may be private.
    pub(super) trusted: Option<String>,
    pub(super) content_types: Vec<String>,
}

impl Visitor {
    /// As configured; `home` is any address of the site, `renderer` what its pages need, if they do.
    pub(super) fn new(
        site: &HtmlSite,
        home: &Url,
        renderer: Option<Arc<Renderer>>,
    ) -> Result<Self, FetchError> {
        let user_agent = user_agent(&site.contact);
        let trusted = site.allow_private.then(|| home.host_str().unwrap_or_default().to_owned());
        let client = |redirects| {
            let builder = Client::builder().user_agent(&user_agent).timeout(fetch::TIMEOUT);
            Outbound::new(builder, trusted.clone(), redirects)
                .map_err(|error| FetchError::new(ErrorKind::Connection, fetch::describe(error)))
        };
        let (pages, robots) = (client(0)?, client(REDIRECTS)?);
        let wanted = Wanted {
            url: home.clone(),
            user_agent,
            wait_for: site.wait_for.clone(),
            timeout: Duration::from_secs(site.timeout_secs),
            trusted,
            content_types: site.content_types.clone(),
        };
        Ok(Self {
            pages,
            robots,
            delay: Duration::from_millis(site.delay_ms),
            content_types: site.content_types.clone(),
            _home: Host::of(home),
            browser: renderer.map(|renderer| (renderer, wanted)),
        })
    }

    /// The page, if it is not the one that `validators` are of.
    pub(super) async fn get(
        &self,
        url: &Url,
        validators: &Validators,
    ) -> Result<(Answer, Url), FetchError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            match self.visit(&url, validators).await? {
                Visited::Here(answer) => return Ok((answer, url)),
                Visited::Moved(target) => url = target,
            }
        }
        let fault = format!("the page redirects more than {REDIRECTS} times");
        Err(FetchError::new(ErrorKind::Provider, fault))
    }

    async fn visit(&self, url: &Url, validators: &Validators) -> Result<Visited, FetchError> {
        let host = Host::of(url);
        let mut visit = host.visit(self.delay).await;
        visit.permit(&self.robots, url).await?;
        if let Some((renderer, wanted)) = &self.browser {
            let wanted = Wanted { url: url.clone(), ..wanted.clone() };
            return Ok(Visited::Here(Answer::Page(renderer.render(wanted).await?)));
        }
        let conditions = validators.as_conditions(url);
        let response =
            send(&self.pages, Method::GET, url.clone(), |request| request.headers(conditions));
        let response = response.await?;
        if let Some(target) = moved(url, &response)? {
            return Ok(Visited::Moved(target));
        }
        let answer = fetch::read(response).await?;
        if let Answer::Page(page) = &answer {
            self.check_type(page)?;
        }
        Ok(Visited::Here(answer))
    }

    fn check_type(&self, page: &fetch::Page) -> Result<(), FetchError> {
        let Some(named) = page.headers.get(CONTENT_TYPE) else { return Ok(()) };
        let named = String::from_utf8_lossy(named.as_bytes());
        check_media_type(named.split(';').next().unwrap_or_default().trim(), &self.content_types)
    }
}

/// What is something else than a page, such as a picture or a program's answer, is not published.
pub(super) fn check_media_type(found: &str, wanted: &[String]) -> Result<(), FetchError> {
    if wanted.iter().any(|known| known.eq_ignore_ascii_case(found)) {
        return Ok(());
    }
    let shown: String = found.chars().take(80).collect();
    let fault = format!("the page is of the type {shown:?}, not {}", wanted.join(" or "));
    Err(FetchError::new(ErrorKind::Malformed, fault))
}

/// What came of a visit.
enum Visited {
    Here(Answer),
    Moved(Url),
}

/// Sends a request to wherever it may go, and waits for the beginning of the answer.
pub(super) async fn send(
    client: &Outbound,
    method: Method,
    url: Url,
    finish: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> Result<Response, FetchError> {
    let forbidden =
        |private: &dyn ToString| FetchError::new(ErrorKind::Forbidden, private.to_string());
    let request = client.request(method, url).map_err(|private| forbidden(&private))?;
    finish(request).send().await.map_err(|error| match PrivateAddress::is_cause_of(&error) {
        true => forbidden(&fetch::describe(error)),
        false => fetch::unsent(error),
    })
}

/// Where a redirect leads (RFC 9110, 15.4).
fn moved(url: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| url.join(location).ok());
    match target.filter(|target| matches!(target.scheme(), "http" | "https")) {
        Some(target) => Ok(Some(target)),
        None => Err(FetchError::new(ErrorKind::Provider, "the page redirects to no web address")),
    }
}

/// Who we are, and how our owner is reached.
fn user_agent(contact: &str) -> String {
    let product = format!("{PRODUCT}/{}", env!("CARGO_PKG_VERSION"));
    if contact.is_empty() { product } else { format!("{product} (+{contact})") }
}

/// Finds out whether the contact can be told.
pub(super) fn check_contact(key: &str, contact: &str) -> Result<(), ConfigError> {
    let is_fine = contact.bytes().all(|byte| byte.is_ascii_graphic() && !b"()\\".contains(&byte));
    if is_fine {
        return Ok(());
    }
    let fault = "it is no address of a page or of mail: visible ASCII without parentheses";
    Err(ConfigError::new(key, fault))
}

/// What makes the next request for a page a conditional one (RFC 9110, 13.1).
#[derive(Default)]
pub(super) struct Validators {
    /// Where the page was, after all redirects.
    url: Option<Url>,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Validators {
    /// Of the page that was at this address.
    pub(super) fn of(url: Url, headers: &HeaderMap) -> Self {
        let value = |name: HeaderName| headers.get(name).cloned();
        Self { url: Some(url), etag: value(ETAG), last_modified: value(LAST_MODIFIED) }
    }

    fn as_conditions(&self, url: &Url) -> HeaderMap {
        if self.url.as_ref() != Some(url) {
            return HeaderMap::new();
        }
        let etag = self.etag.iter().map(|value| (IF_NONE_MATCH, value.clone()));
        let date = self.last_modified.iter().map(|value| (IF_MODIFIED_SINCE, value.clone()));
        etag.chain(date).collect()
    }
}
