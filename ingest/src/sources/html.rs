//! A web page with prices, fetched now and then and published as it is.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{
    Client, Url,
    header::{
        ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    },
};
use schemas::{Format, HtmlSite, RawTick, Source as Name};
use tokio::time::sleep;

use super::{
    fetch::{self, Answer, fetch},
    polling::Pages,
};
use crate::{
    config::{self, ConfigError},
    outlet::backoff,
    source::{FetchError, Session, Source},
};

/// A web page.
pub(super) struct Page {
    name: Name,
    url: Url,
    interval_secs: u64,
}

impl Page {
    pub(super) fn new(site: &HtmlSite) -> Result<Self, ConfigError> {
        let fault = |fault: &dyn ToString| {
            ConfigError::new("sources", format!("html:{}: {}", site.name, fault.to_string()))
        };
        let name = Name::new(&format!("html:{}", site.name)).map_err(|error| fault(&error))?;
        let key = format!("sources: html:{}: url", site.name);
        let url = config::url(&key, &site.url, &["http", "https"])?;
        if site.interval_secs == 0 {
            return Err(fault(&"interval_secs must be at least 1"));
        }
        Ok(Self { name, url, interval_secs: site.interval_secs })
    }

    async fn get(&self, client: &Client, validators: &Validators) -> Result<Answer, FetchError> {
        fetch(client.get(self.url.clone()).headers(validators.as_conditions())).await
    }

    fn tick(&self, id: String, page: fetch::Page) -> RawTick {
        RawTick {
            id,
            source: self.name.clone(),
            symbol: None,
            received_at: page.received_at,
            content_type: page.content_type("text/html"),
            format: Format::Html,
            columns: None,
            body: page.body,
        }
    }
}

#[async_trait]
impl Source for Page {
    fn name(&self) -> &Name {
        &self.name
    }

    fn url(&self) -> String {
        config::shown(&self.url)
    }

    async fn run(&self, session: Session) -> Result<(), FetchError> {
        let Session { resume, mut outlet, .. } = session;
        let client = fetch::client()?;
        let interval = Duration::from_secs(self.interval_secs);
        let mut pages = Pages::new(&self.name, self.interval_secs, resume.as_deref());
        let mut validators = Validators::default();
        let mut backoff = backoff();
        loop {
            match self.get(&client, &validators).await {
                Ok(Answer::Page(page)) => {
                    backoff.reset();
                    validators = Validators::of(&page.headers);
                    match pages.id(None, page.received_at, &page.body) {
                        Some(id) => outlet.send(self.tick(id, page)).await,
                        None => outlet.unchanged(),
                    }
                }
                Ok(Answer::NotModified) => {
                    backoff.reset();
                    outlet.unchanged();
                }
                Err(error) => outlet.back_off(&error, &mut backoff).await,
            }
            sleep(interval).await;
        }
    }
}

/// What makes the next request a conditional one (RFC 9110, 13.1).
#[derive(Default)]
struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let value = |name: HeaderName| headers.get(name).cloned();
        Self { etag: value(ETAG), last_modified: value(LAST_MODIFIED) }
    }

    fn as_conditions(&self) -> HeaderMap {
        let etag = self.etag.iter().map(|value| (IF_NONE_MATCH, value.clone()));
        let date = self.last_modified.iter().map(|value| (IF_MODIFIED_SINCE, value.clone()));
        etag.chain(date).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        http::StatusCode,
        response::{IntoResponse, Response},
    };
    use schemas::HtmlField;

    use super::*;
    use crate::{
        sources::stub,
        testing::{start, text},
    };

    fn site(url: String) -> HtmlSite {
        let field = HtmlField { select: "td".into(), attribute: String::new() };
        HtmlSite {
            name: "shop".into(),
            url,
            interval_secs: 1,
            rows: "tr".into(),
            symbol: field.clone(),
            price: field,
            currency: "USD".into(),
            decimal_separator: schemas::NumberFormat::Point,
        }
    }

    fn page(etag: &'static str, body: &'static str) -> Response {
        ([("content-type", "text/html; charset=utf-8"), ("etag", etag)], body).into_response()
    }

    #[tokio::test]
    async fn a_page_is_published_when_it_has_changed() {
        let server = stub::serve(|n, request| async move {
            let condition = request.headers().get("if-none-match");
            let condition = condition.map(|value| value.to_str().unwrap().to_owned());
            match n {
                0 => {
                    assert_eq!(condition, None);
                    page("\"a\"", "A")
                }
                1 => {
                    assert_eq!(condition.as_deref(), Some("\"a\""));
                    StatusCode::NOT_MODIFIED.into_response()
                }
                2 => page("\"a2\"", "A"),
                3 => page("\"b\"", "B"),
                _ => page("\"a\"", "A"),
            }
        })
        .await;
        let mut running = start(Page::new(&site(server.url("/"))).unwrap(), None);
        let mut ids = Vec::new();
        for body in ["A", "B", "A"] {
            let tick = running.next().await;
            assert_eq!(text(&tick.body), body);
            assert_eq!((tick.symbol, tick.format), (None, Format::Html));
            assert_eq!(tick.content_type, "text/html; charset=utf-8");
            ids.push(tick.id);
        }
        server.requests(5).await;
        ids.dedup();
        assert_eq!(ids.len(), 3);
        running.session.abort();
    }

    #[tokio::test]
    async fn after_a_restart_the_same_page_is_not_published_again() {
        let server = stub::serve(|n, _| async move {
            if n < 2 { page("\"a\"", "A") } else { page("\"b\"", "B") }
        })
        .await;
        let mut first = start(Page::new(&site(server.url("/"))).unwrap(), None);
        let id = first.next().await.id;
        first.session.abort();
        let mut second = start(Page::new(&site(server.url("/"))).unwrap(), Some(&id));
        assert_eq!(text(&second.next().await.body), "B");
        second.session.abort();
    }

    #[tokio::test]
    async fn a_missing_page_is_told_and_tried_again() {
        let server = stub::serve(|n, _| async move {
            if n == 0 { StatusCode::NOT_FOUND.into_response() } else { page("\"a\"", "A") }
        })
        .await;
        let mut running = start(Page::new(&site(server.url("/"))).unwrap(), None);
        assert_eq!(text(&running.next().await.body), "A");
        assert_eq!(running.error().await, "the provider answers 404 Not Found");
        running.session.abort();
    }

    #[test]
    fn a_site_that_cannot_be_fetched_says_why() {
        let fault = |site: HtmlSite| Page::new(&site).err().unwrap().to_string();
        assert_eq!(
            fault(site("ftp://example.com".into())),
            "ingest.sources: html:shop: url: it begins with ftp:, not with http:// or https://"
        );
        let often = HtmlSite { interval_secs: 0, ..site("http://example.com".into()) };
        assert!(fault(often).contains("html:shop: interval_secs must be at least 1"));
    }
}
