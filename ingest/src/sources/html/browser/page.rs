//! One page, from its address to what its scripts made of it.

use std::time::Duration;

use bytes::Bytes;
use chromiumoxide::{
    Browser, Page as Tab,
    cdp::{
        browser_protocol::{
            browser::{
                BrowserContextId, EventDownloadWillBegin, SetDownloadBehaviorBehavior,
                SetDownloadBehaviorParams,
            },
            network::{EventResponseReceived, ResourceType, SetUserAgentOverrideParams},
            page::{EventJavascriptDialogOpening, HandleJavaScriptDialogParams, NavigateParams},
            target::CreateTargetParams,
        },
        js_protocol::runtime::EvaluateParams,
    },
    error::CdpError,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::Value;
use tokio::time::sleep;

use super::gate::Gate;
use crate::{
    outlet::MAX_PAYLOAD_BYTES,
    source::{ErrorKind, FetchError},
    sources::{
        fetch::{self, Page},
        html::visit::{Wanted, check_media_type},
    },
};

/// How often a page is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Loads a page in a context of its own and waits until it is ready.
pub(super) async fn load(
    browser: &Browser,
    context: BrowserContextId,
    gate: &Gate,
    wanted: &Wanted,
) -> Result<Page, FetchError> {
    let mut no_downloads = SetDownloadBehaviorParams::new(SetDownloadBehaviorBehavior::Deny);
    no_downloads.browser_context_id = Some(context.clone());
    no_downloads.events_enabled = Some(true);
    browser.execute(no_downloads).await.map_err(broken)?;
    let mut blank = CreateTargetParams::new("about:blank");
    blank.browser_context_id = Some(context);
    let tab = browser.new_page(blank).await.map_err(broken)?;
    let agent = SetUserAgentOverrideParams::new(&wanted.user_agent);
    tab.execute(agent).await.map_err(broken)?;
    let dialogs = tab.event_listener::<EventJavascriptDialogOpening>().await.map_err(broken)?;
    let dismissing = dialogs.for_each(async |_| {
        // A dialog that is gone meanwhile needs no answer.
        let _ = tab.execute(HandleJavaScriptDialogParams::new(false)).await;
    });
    let reading = async {
        navigate(browser, &tab, gate, wanted).await?;
        ready(&tab, &wanted.wait_for).await?;
        read(&tab).await
    };
    tokio::select! {
        page = reading => page,
        () = dismissing => Err(FetchError::new(ErrorKind::Connection, "the browser has ended")),
    }
}

/// Goes to the page; what is answered there must be a page.
async fn navigate(
    browser: &Browser,
    tab: &Tab,
    gate: &Gate,
    wanted: &Wanted,
) -> Result<(), FetchError> {
    let frame = tab.mainframe().await.map_err(broken)?;
    let mut downloads = browser.event_listener::<EventDownloadWillBegin>().await.map_err(broken)?;
    // Navigating to one has no end.
    let downloaded = async {
        while let Some(download) = downloads.next().await {
            if Some(&download.frame_id) == frame.as_ref() {
                return;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        arrived = arrive(tab, gate, wanted) => arrived,
        () = downloaded => {
            Err(FetchError::new(ErrorKind::Malformed, "it is a file to download, not a page"))
        }
    }
}

async fn arrive(tab: &Tab, gate: &Gate, wanted: &Wanted) -> Result<(), FetchError> {
    let mut answers = tab.event_listener::<EventResponseReceived>().await.map_err(broken)?;
    let navigated = tab.execute(NavigateParams::new(wanted.url.as_str())).await;
    let navigated = navigated.map_err(broken)?.result;
    if let Some(fault) = navigated.error_text {
        return Err(match gate.refused() {
            Some(private) => FetchError::new(ErrorKind::Forbidden, private.to_string()),
            None => FetchError::new(ErrorKind::Connection, fault),
        });
    }
    while let Some(answer) = answers.next().await {
        if answer.r#type == ResourceType::Document
            && Some(&answer.loader_id) == navigated.loader_id.as_ref()
        {
            let response = &answer.response;
            let status = u16::try_from(response.status).ok();
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.unwrap_or(StatusCode::OK);
            if !status.is_success() {
                return Err(fetch::refused(status, retry_after(response.headers.inner())));
            }
            return check_media_type(&response.mime_type, &wanted.content_types);
        }
    }
    Err(FetchError::new(ErrorKind::Connection, "the browser has ended"))
}

/// The header's value; the names are as the server wrote them.
fn retry_after(headers: &Value) -> Option<&str> {
    let mut headers = headers.as_object()?.iter();
    headers.find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?.1.as_str()
}

/// Waits until the page is ready.
async fn ready(tab: &Tab, wait_for: &str) -> Result<(), FetchError> {
    let condition = match wait_for {
        "" => "document.readyState === 'complete'".to_owned(),
        // A text of JSON is one of JavaScript.
        selector => format!("document.querySelector({}) !== null", Value::from(selector)),
    };
    loop {
        match evaluate(tab, &condition).await {
            Ok(Value::Bool(true)) => return Ok(()),
            // It may be on the way to another page.
            Ok(_) | Err(CdpError::Chrome(_)) => sleep(ASK_EVERY).await,
            Err(error) => return Err(broken(error)),
        }
    }
}

/// The page as it stands.
async fn read(tab: &Tab) -> Result<Page, FetchError> {
    // A character is a byte at least: what is too long need not be moved.
    let page = format!(
        "(() => {{ const page = '<!doctype html>' + document.documentElement.outerHTML; \
         return page.length > {MAX_PAYLOAD_BYTES} ? null : page; }})()"
    );
    match evaluate(tab, &page).await.map_err(broken)? {
        Value::String(page) if page.len() <= MAX_PAYLOAD_BYTES => {
            let content_type = HeaderValue::from_static("text/html; charset=utf-8");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
            Ok(Page { body: Bytes::from(page), headers, received_at: Timestamp::now() })
        }
        _ => {
            let fault = format!("the page has more than {MAX_PAYLOAD_BYTES} bytes");
            Err(FetchError::new(ErrorKind::TooLarge, fault))
        }
    }
}

async fn evaluate(tab: &Tab, expression: &str) -> Result<Value, CdpError> {
    let mut evaluate = EvaluateParams::new(expression);
    evaluate.return_by_value = Some(true);
    evaluate.silent = Some(true);
    Ok(tab.execute(evaluate).await?.result.result.value.unwrap_or_default())
}

/// The browser does not do as it is told.
pub(super) fn broken(error: CdpError) -> FetchError {
    FetchError::new(ErrorKind::Connection, format!("the browser: {error}"))
}
